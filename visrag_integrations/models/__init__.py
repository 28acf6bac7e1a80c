"""Torch networks that transformers does not have; torch and safetensors only."""
