"""The torch modules behind the declarations; only these files import torch at the top."""
