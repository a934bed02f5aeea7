"""A stock guest's functions, counted by probes and by ftrace, across a move."""

import json
import re

from labkit import pagurus

LIMIT = 600
GUEST = "10.78.1.100"
DRIVER = "igbvf_xmit_frame"
TAIL = "shmem_rmdir"		# jumps to shmem_unlink, or returns an error
WATCH = (DRIVER, TAIL, "shmem_unlink", "shmem_mkdir")
CALLS = 20
LINKED = 0xffffffff81000000	# where a kernel is before KASLR

# The guest's own account: entries and exits of the same functions.
TRACE = """
mount -t tracefs t /sys/kernel/tracing 2>/dev/null
cd /sys/kernel/tracing
echo 0 > tracing_on
echo 8192 > buffer_size_kb
echo %s > set_ftrace_filter
echo function_graph > current_tracer
echo funcgraph-tail > trace_options
echo > trace
echo 1 > tracing_on
cat set_ftrace_filter
""" % " ".join(WATCH)


def system_map(path, by=0):
    """The symbols of /proc/kallsyms as the kernel's System.map has them; with
    'by' half of them are that far off, as in another build."""
    with open(path) as f:
        all_ = [x.split() for x in f if "[" not in x]
    slide = [int(x[0], 16) for x in all_ if x[2] == "_stext"][0] - LINKED
    return "".join("%016x %s %s\n" % (
        int(a, 16) - slide + by * (i % 2), t, n)
        for i, (a, t, n) in enumerate(all_))


def traced(g):
    """{function: [entries, exits]} as the guest has seen them."""
    text = g.run("echo 0 > /sys/kernel/tracing/tracing_on; "
                 "cat /sys/kernel/tracing/trace | grep -v '^#' | "
                 "sed 's/.*| *//' | sort | uniq -c", timeout=120).out
    seen = {f: [0, 0] for f in WATCH}
    for n, what in re.findall(r"^ *(\d+) (.*)$", text, re.M):
        m = re.search(r"(\w+)(?: \[\w+\])?\(\)( \{|;)", what)
        if m and m.group(1) in seen:
            seen[m.group(1)][0] += int(n)
            seen[m.group(1)][1] += int(n) * (m.group(2) == ";")
        m = re.search(r"\} /\* (\w+)", what)
        if m and m.group(1) in seen:
            seen[m.group(1)][1] += int(n)
    return seen


def work(g, peer):
    g.run("ping -c 3 -W 5 %s" % peer)
    r = g.run("for i in $(seq %d); do mkdir /tmp/d$i; done; "
              "ls -d /tmp/d[0-9]* | wc -l; rmdir /tmp/d[0-9]*; "
              "mkdir -p /tmp/e/f; rmdir /tmp/e 2>/dev/null && echo bad; "
              "rmdir /tmp/e/f /tmp/e" % CALLS, timeout=120)
    return r.out.split()


def sums(command):
    """What `probe --count --json` printed at its end."""
    last = [x for x in command.out.splitlines() if x.startswith('{"func')]
    return {f["function"]: f for f in json.loads(last[-1])["functions"]}


def scenario(lab):
    a, b = lab.hosts("a", "b", nics=2)
    tls = lab.tls(a, b)
    for h in (a, b):
        pagurus.card_pf(h)
    b.nics[1].up()
    peer = b.nics[1].address

    lab.step("the guest boots, its VF has link")
    g = pagurus.run(a)
    g.run("echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6; true")
    g.vf_up(GUEST)
    g.run("ping -c 2 -W 5 " + peer)

    lab.step("its symbols come out by the network")
    g.run("mkdir /tmp/www; grep -i ' [tw] ' /proc/kallsyms > /tmp/www/k; "
          "httpd -p 5999 -h /tmp/www", timeout=60)
    b.run("wget -q -O /tmp/kallsyms http://%s:5999/k" % GUEST, timeout=120)
    symbols = b.get("/tmp/kallsyms")
    a.put(symbols, "/tmp/kallsyms")
    a.write("/tmp/System.map", system_map(symbols))
    a.write("/tmp/wrong", system_map(symbols, 0x40))

    lab.step("what could be probed")
    listing = a.run("pagurus probe --list --vm g -s /tmp/kallsyms %s" %
                    ",".join(WATCH), timeout=120).out
    lab.log(listing)
    lab.check("the tail call is found", re.search(
        TAIL + r"  .*\n(  .*\n)*?  .* tail call +to shmem_unlink", listing),
              listing)
    lab.check("nothing is refused", "REFUSED" not in listing, listing)
    again = a.run("pagurus probe --list --vm g -s /tmp/System.map %s" %
                  ",".join(WATCH[1:]), timeout=120).out
    lab.check("a System.map does, KASLR or not", again in listing, again)
    r = a.fails("pagurus probe --vm g -s /tmp/wrong shmem_unlink")
    lab.check("another kernel's does not", "another kernel" in r.out, r.out)

    lab.step("probes are set beside the guest's own tracing")
    own = g.run(TRACE).out
    lab.check("ftrace knows them", all(f in own for f in WATCH), own)
    p = a.spawn("exec pagurus probe --count --json --vm g -s /tmp/kallsyms " +
                ",".join(WATCH))
    p.expect("functions of g's kernel", 120)
    lab.equal("the guest works", work(g, peer), [str(CALLS)])

    g.run("ping -c 100 -i 0.5 %s > /tmp/ping 2>&1 & true" % peer)
    pagurus.move(lab, g, a, b, tls)
    p.wait(60)
    lab.check("the client is told", "moved to" in p.out, p.out)

    lab.step("the probes are in force there")
    q = b.spawn("exec pagurus probe --resume --count --json --vm g")
    q.expect("functions of g's kernel", 60)
    lab.say(str(pagurus.status(b)["probes"]))
    lab.equal("the guest works", work(g, peer), [str(CALLS)])
    g.wait_for("! pidof ping", 120)
    lab.say(g.run("tail -n 2 /tmp/ping").out.strip().replace("\n", ", "))
    q.kill("INT")
    q.wait(60)

    lab.step("probes and ftrace saw the same")
    mine, own = sums(q), traced(g)
    for f in WATCH:
        s = mine[f]
        lab.equal(f, [s["entry"], s["exit"], s["abandoned"]], own[f] + [0])
        lab.say("%s: %d calls, latency %.0f us on average, %.0f at least" % (
            f, s["entry"], s["mean_ns"] / 1e3, s["min_ns"] / 1e3))
        lab.check("latency of " + f, 0 < s["min_ns"] <= s["mean_ns"], s)
    lab.check("system calls", mine[TAIL]["entry"] == 2 * (CALLS + 3),
              mine[TAIL])
    lab.check("frames", mine[DRIVER]["entry"] >= 60, mine[DRIVER])

    lab.step("without probes the guest goes on")
    lab.equal("the guest works", work(g, peer), [str(CALLS)])
    lab.equal("its log", g.run("dmesg | grep -i -e 'ftrace bug' -e 'oops' "
                               "-e 'int3' -e 'BUG:'; true").out.strip(), "")
