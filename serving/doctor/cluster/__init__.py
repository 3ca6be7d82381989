"""What `signet doctor --namespace` looks at: the live objects of a release, by the Kubernetes API."""
