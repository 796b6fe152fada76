"""The configuration: its options, how it is loaded, what is refused.

``options`` and ``host_options`` hold one row for each key, ``kinds`` what a
row can allow, and ``section`` adds ours to FederatedScope's configuration.
``load`` puts YAML files (``yaml_file``), variations (``adapter``) and the
command line together, after ``plugins`` has imported the user's own files.
``checks`` and ``checks_of_methods`` look at several keys together, and
``settings`` answers what a configuration says.
"""
