"""Who asks: certificates, tokens and evidence, each checked against what a tenant trusts."""
