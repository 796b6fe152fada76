"""The configuration: its options, how it is loaded, what is refused.

``options`` and ``host_options`` hold one row for each key, ``kinds`` what a
row can allow, ``load`` reads YAML files and the command line, ``checks``
looks at several keys together, and ``settings`` answers what a configuration
says.
"""
