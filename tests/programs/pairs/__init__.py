"""`make pairs`: two runtimes over one store take over from each other under load, and what clients saw is judged."""
