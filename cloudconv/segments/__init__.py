"""Plan, render and store the segments of a job."""
