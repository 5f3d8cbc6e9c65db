"""Bringing stores to the state that they should have: what is desired, what is there, what differs, what to do.

| desired | observed | difference | action |
| --- | --- | --- | --- |
| each partition between the first and the last | `coverage` | `missing` | `partitions.gaps` |
| each file has the features that are declared | `coverage` | `lacking` | `partitions.lacking_features` |
| values are those of the function as it is | `coverage` | `definition_change` | a new version, by its owner |
| what is visible stands online | `online_sample` | `lost`, `unfinished` | `refill`, `repair` |
| a training set is what its sources give | `stale_training_sets` | `files` | a new version, by its owner |

Sensors, the command line and the store's verbs only ask, show, and launch. Nothing here knows Dagster.
"""
