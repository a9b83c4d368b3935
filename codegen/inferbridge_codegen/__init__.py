"""inferbridge code generator"""
