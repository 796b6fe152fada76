"""The configuration: its options, how it is loaded, and how it is checked.

``options`` and ``host_options`` hold one row for each key, ``kinds`` defines
the values that a row can allow, and ``section`` adds the options of this
package to FederatedScope's configuration.  ``load`` merges YAML files
(``yaml_file``), variations (``adapter``) and the command line, after
``plugins`` has imported the user's own files.  ``checks`` and
``checks_of_methods`` check several keys together.
"""
