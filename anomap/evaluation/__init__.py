"""How good is it? AUROC, localisation, baselines and synthetic anomalies."""
