"""Real inference servers as child processes on free loopback ports, serving our own models."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from runtimes.environments import Environment

MODELS = Path(__file__).parent / "models"
LOADED_MODELS = ("echo", "add", "fail", "reflect", "words")
READY_PATHS = tuple(f"/v2/models/{model}/ready" for model in LOADED_MODELS)
START_SECONDS = 90.0  # a loaded machine; an idle one needs 2 to 6
STOP_SECONDS = 10.0
ATTEMPTS = 3  # a port found free may be taken before the server binds it

VLLM_MODEL = "tiny"
VLLM_START_SECONDS = 300.0  # an idle machine needs 40
VLLM_OPTIONS = (
    f"--served-model-name={VLLM_MODEL}",
    "--host=127.0.0.1",
    "--dtype=float32",  # greedy texts come out the same every time
    "--max-model-len=256",
    "--max-num-seqs=8",
    "--enforce-eager",  # compiling takes longer than the tests
)
OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
VLLM_VARIABLES = {
    **OFFLINE,
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB, the least there is
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


class ServerFailed(Exception):
    """A server did not come up; the message ends with the tail of its log."""


@dataclass(frozen=True)
class Server:
    """A running inference server."""

    name: str
    rest_port: int
    grpc_port: int
    log: Path
    settings: Mapping[str, str | Path] = field(default_factory=dict)  # what the proxy is told of it

    @property
    def rest_url(self) -> str:
        """Where it speaks REST."""
        return f"http://127.0.0.1:{self.rest_port}"

    @property
    def grpc_url(self) -> str:
        """Where it speaks gRPC, in the form the proxy's `--upstream` takes."""
        return f"grpc://127.0.0.1:{self.grpc_port}"


@dataclass(frozen=True)
class Launch:
    """How to start one server."""

    command: Sequence[str | Path]
    variables: Mapping[str, str]
    ready_paths: Sequence[str] = READY_PATHS  # REST paths that answer 200 once the server has all it needs
    start_seconds: float = START_SECONDS
    speaks_grpc: bool = True


Launcher = Callable[[int, int], Launch]  # from a REST and a gRPC port


@contextmanager
def run_triton(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run the tritonserver of nvidia-pytriton with `models/triton`; `folder` takes its working files."""
    repository = folder / "models"
    shutil.copytree(MODELS / "triton", repository)
    shutil.copytree(repository / "add" / "1", repository / "add" / "2")
    backends = _triton_backends(environment, folder / "backends")

    def launch(rest_port: int, grpc_port: int) -> Launch:
        return _triton_launch(environment, repository, backends, rest_port, grpc_port)

    with _run("triton", launch, folder) as server:
        yield server


@contextmanager
def run_mlserver(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run MLServer with `models/mlserver`; `folder` takes its working files."""
    repository = folder / "models"
    shutil.copytree(MODELS / "mlserver", repository)
    _split_versions(repository / "add")

    def launch(rest_port: int, grpc_port: int) -> Launch:
        return _mlserver_launch(environment, repository, rest_port, grpc_port)

    with _run("mlserver", launch, folder) as server:
        yield server


@contextmanager
def run_kserve(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run KServe's model server with the models of `models/kserve`."""

    def launch(rest_port: int, grpc_port: int) -> Launch:
        ports = [f"--http_port={rest_port}", f"--grpc_port={grpc_port}"]
        command = [environment.python, MODELS / "kserve" / "start.py", *ports]
        return Launch(command, {"PYTHONDONTWRITEBYTECODE": "1"}, ("/v2/health/ready",))

    with _run("kserve", launch, folder) as server:
        yield server


@contextmanager
def run_caikit(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run caikit's runtime with the library and model of `models/caikit`; `folder` takes its working files."""
    library = folder / "caikit"
    shutil.copytree(MODELS / "caikit", library)

    def launch(rest_port: int, grpc_port: int) -> Launch:
        variables = {
            "PYTHONPATH": str(library),
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONFIG_FILES": str(library / "caikit.yml"),
            "RUNTIME_LOCAL_MODELS_DIR": str(library / "models"),
            "RUNTIME_HTTP_PORT": str(rest_port),
            "RUNTIME_GRPC_PORT": str(grpc_port),
        }
        return Launch([environment.python, library / "start.py"], variables, ("/health",))

    with _run("caikit", launch, folder) as server:
        yield replace(server, settings={"default_model": "parrot", "chat_template": library / "chat_template.jinja"})


@contextmanager
def run_caikit_nlp(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run caikit's runtime with caikit-nlp's own embedding module and the weights of MiniLM, as model `minilm`."""
    models = folder / "models"
    # -P: the other caikit_nlp, beside the script, is a toy
    command: list[str | Path] = [environment.python, "-P", MODELS / "caikit" / "make_minilm.py", models]
    made = subprocess.run(command, env=os.environ | OFFLINE, capture_output=True, text=True, check=False)
    if made.returncode:
        raise RuntimeError(f"the model of caikit-nlp could not be made:\n{made.stderr[-2000:]}")

    def launch(rest_port: int, grpc_port: int) -> Launch:
        variables = {
            **OFFLINE,
            "PYTHONDONTWRITEBYTECODE": "1",
            "CONFIG_FILES": str(MODELS / "caikit" / "caikit.yml"),
            "RUNTIME_LOCAL_MODELS_DIR": str(models),
            "RUNTIME_HTTP_PORT": str(rest_port),
            "RUNTIME_GRPC_PORT": str(grpc_port),
        }
        return Launch([environment.python, "-P", MODELS / "caikit" / "start.py"], variables, ("/health",))

    with _run("caikit-minilm", launch, folder) as server:
        yield server


@contextmanager
def run_vllm(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run vLLM with the fmaas adapter in one process: REST and gRPC in front of one engine with a tiny model.

    The model is made anew in `folder` / "tiny", with its chat template.
    """
    model = _make_vllm_model(environment, folder)

    def launch(rest_port: int, grpc_port: int) -> Launch:
        command = [environment.python, MODELS / "vllm" / "start.py", f"--model={model}", *VLLM_OPTIONS]
        options = ["--max-new-tokens=100", f"--port={rest_port}", f"--grpc-port={grpc_port}"]
        return Launch([*command, *options], VLLM_VARIABLES, ("/health",), VLLM_START_SECONDS)

    with _run("vllm", launch, folder) as server:
        settings = {"default_model": VLLM_MODEL, "chat_template": model / "chat_template.jinja"}
        yield replace(server, settings=settings)


@contextmanager
def run_vllm_embeddings(environment: Environment, folder: Path) -> Iterator[Server]:
    """Run vLLM over REST alone, with the same model, whose last hidden states become vectors."""
    model = _make_vllm_model(environment, folder)
    start = ["-m", "vllm.entrypoints.launchers.api_server.entry", "--runner=pooling", f"--model={model}"]

    def launch(rest_port: int, _: int) -> Launch:
        command = [environment.python, *start, *VLLM_OPTIONS, f"--port={rest_port}"]
        return Launch(command, VLLM_VARIABLES, ("/health",), VLLM_START_SECONDS, speaks_grpc=False)

    with _run("vllm-embeddings", launch, folder) as server:
        yield replace(server, settings={"default_model": VLLM_MODEL})


def _make_vllm_model(environment: Environment, folder: Path) -> Path:
    model = folder / VLLM_MODEL
    make = [environment.python, MODELS / "vllm" / "make_model.py", model]
    subprocess.run(make, check=True, capture_output=True, env=os.environ | VLLM_VARIABLES)
    return model


def _triton_backends(environment: Environment, folder: Path) -> Path:
    """Put the stub for this Python beside the backend library, where Triton looks; the wheel keeps them apart."""
    bundled = environment.site_packages / "pytriton" / "tritonserver"
    backend = folder / "python"
    backend.mkdir(parents=True)
    for source in (
        bundled / "backends" / "python" / "libtriton_python.so",
        bundled / "backends" / "python" / "triton_python_backend_utils.py",
        bundled / "python_backend_stubs" / environment.interpreter.minor / "triton_python_backend_stub",
    ):
        shutil.copy(source, backend)
        (backend / source.name).chmod(0o755)
    return folder


def _triton_launch(environment: Environment, repository: Path, backends: Path, rest: int, grpc: int) -> Launch:
    libraries = environment.site_packages / "nvidia_pytriton.libs"
    command: list[str | Path] = [
        environment.site_packages / "pytriton" / "tritonserver" / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--backend-directory={backends}",
        f"--http-port={rest}",
        f"--grpc-port={grpc}",
        "--http-address=127.0.0.1",
        "--grpc-address=127.0.0.1",
        "--allow-metrics=false",
        "--model-control-mode=explicit",
        "--strict-readiness=true",
        *(f"--load-model={name}" for name in LOADED_MODELS),
    ]
    variables = {
        # the copied stub no longer finds the bundled libraries by itself, nor the libpython of this environment
        "LD_LIBRARY_PATH": f"{libraries}:{environment.interpreter.library_folder}",
        "PATH": f"{environment.python.parent}:{os.environ['PATH']}",  # the stub takes its site-packages from there
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return Launch(command, variables)


def _split_versions(model: Path) -> None:
    """Turn a model folder of MLServer into one folder for each of the versions 1 and 2."""
    settings = model / "model-settings.json"
    text = settings.read_text("utf-8").rstrip().removesuffix("}").rstrip()
    settings.unlink()
    for version in ("1", "2"):
        (model / version).mkdir()
        (model / version / settings.name).write_text(f'{text},\n "parameters": {{"version": "{version}"}}\n}}\n')


def _mlserver_launch(environment: Environment, repository: Path, rest: int, grpc: int) -> Launch:
    start = "import sys; from mlserver.cli import main; sys.argv[0] = 'mlserver'; main()"
    variables = {
        "PYTHONPATH": str(repository),
        "PYTHONDONTWRITEBYTECODE": "1",
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": str(rest),
        "MLSERVER_GRPC_PORT": str(grpc),
        "MLSERVER_METRICS_ENDPOINT": "",  # no third port
        "MLSERVER_PARALLEL_WORKERS": "0",
        "MLSERVER_DEBUG": "false",
    }
    return Launch([environment.python, "-c", start, "start", repository], variables)


@contextmanager
def _run(name: str, launch: Launcher, folder: Path) -> Iterator[Server]:
    server, process = _start(name, launch, folder)
    try:
        yield server
    finally:
        stop_group(process)


def _start(name: str, launch: Launcher, folder: Path) -> tuple[Server, subprocess.Popen[bytes]]:
    log = folder / f"{name}.log"
    for attempt in range(ATTEMPTS):
        rest_port, grpc_port = free_ports(2)
        server = Server(name, rest_port, grpc_port, log)
        started = launch(server.rest_port, server.grpc_port)
        process = _spawn(started, folder, log)
        problem = _await_ready(server, process, started)
        if problem is None:
            return server, process
        stop_group(process)
        if "in use" not in log.read_text("utf-8", "replace") or attempt == ATTEMPTS - 1:
            break
    raise ServerFailed(f"{name} {problem}\n{log_tail(log)}")


def _spawn(launch: Launch, folder: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            launch.command,
            cwd=folder,
            env=os.environ | launch.variables,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a group of its own: its workers end with it
        )


def _await_ready(server: Server, process: subprocess.Popen[bytes], launch: Launch) -> str | None:
    """Poll until the server has all its models; else what went wrong."""
    deadline = time.monotonic() + launch.start_seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            return f"ended with {process.returncode} while starting"
        if (not launch.speaks_grpc or accepts_connections(server.grpc_port)) and _is_ready(server, launch.ready_paths):
            return None
        time.sleep(0.05)
    return f"was not ready after {launch.start_seconds:.0f} s"


def _is_ready(server: Server, paths: Sequence[str]) -> bool:
    return all(_is_ok(f"{server.rest_url}{path}") for path in paths)


def _is_ok(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def accepts_connections(port: int) -> bool:
    """Whether something listens on the loopback port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count: int) -> list[int]:
    """Loopback ports nothing listened on a moment ago."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and all it started: politely, then for good."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.wait(STOP_SECONDS)


def log_tail(log: Path, lines: int = 40) -> str:
    """The last lines of a log, for a failure report."""
    return "\n".join(line[:300] for line in log.read_text("utf-8", "replace").splitlines()[-lines:])
