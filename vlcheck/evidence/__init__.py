"""How each piece of evidence is had that rules are functions of."""
