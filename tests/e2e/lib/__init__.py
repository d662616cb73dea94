# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests stand on: namespaces, packets, the daemon, collectors, accounts.

Python's standard library only. Everything a test starts or makes belongs to a Lab, which takes it
away again whatever happens; every wait has an end.
"""
