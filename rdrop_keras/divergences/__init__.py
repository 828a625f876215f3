"""How far the outputs of several passes lie apart."""
