"""A project to begin with: its files, as they are in `project/`, and how they come into a folder.

`project/` is no part of the library. It is text for others, which knows Dagster, and which nothing here imports. Two of
its files have other names there, which no tool takes for its own: `dot_env` is `.env`, `dot_gitignore` `.gitignore`.
"""
