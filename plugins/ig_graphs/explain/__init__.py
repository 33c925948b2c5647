"""The side of ``torch_geometric.explain``: an algorithm for its Explainer, and its explanations."""
