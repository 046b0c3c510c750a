"""One stretch of a video, from its plan to its own file; the store that outlasts a kill."""
