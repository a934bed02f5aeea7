"""The lab: virtual hosts with KVM, an IOMMU and an SR-IOV NIC.

`lab/run` uses this package; a scenario sees only the Lab object it is given
(lab.py) and the hosts made with it (host.py).  lab/README.md is the manual.
"""


class LabError(Exception):
    """Something a step of a scenario expected did not happen."""


class LabSkip(Exception):
    """The lab cannot run on this machine; the text says why."""
