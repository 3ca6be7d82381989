"""A recipe as a job for a cluster: `signet train RECIPE --render trainjob|rayjob`, and the memory that it takes."""
