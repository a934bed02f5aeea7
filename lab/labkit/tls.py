"""Certificates for the hosts of a scenario, signed by a throw-away authority."""

import os

from .image import sh

DIR = "/etc/pagurus/tls"
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def issue(lab, hosts):
    """Give each host ca.pem, cert.pem and key.pem in DIR.

    A certificate is for the host's name and both its addresses, and for
    clients as well as servers: `pagurus migrate` is the one, `receive` the
    other.
    """
    top = os.path.join(lab.dir, "tls")
    os.makedirs(top, exist_ok=True)
    ca, ca_key = os.path.join(top, "ca.pem"), os.path.join(top, "ca.key")
    if not os.path.exists(ca):
        sh("openssl", "req", "-x509", *EC, "-days", "2", "-subj",
           "/CN=lab authority", "-keyout", ca_key, "-out", ca)
    for h in hosts:
        base = os.path.join(top, h.name)
        with open(base + ".ext", "w") as f:
            f.write("subjectAltName=DNS:%s,IP:%s,IP:%s\n"
                    "extendedKeyUsage=serverAuth,clientAuth\n" % (
                        h.name, h.mgmt, h.data))
        sh("openssl", "req", "-new", *EC, "-subj", "/CN=" + h.name,
           "-keyout", base + ".key", "-out", base + ".csr")
        sh("openssl", "x509", "-req", "-in", base + ".csr", "-CA", ca,
           "-CAkey", ca_key, "-CAcreateserial", "-days", "2",
           "-extfile", base + ".ext", "-out", base + ".pem")
        h.put(ca, DIR + "/ca.pem")
        h.put(base + ".pem", DIR + "/cert.pem")
        h.put(base + ".key", DIR + "/key.pem")
        h.run("chmod 600 %s/key.pem" % DIR)
