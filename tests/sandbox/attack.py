"""Ways out of a sandbox, as programs. Each prints GOT and what it got when it has succeeded, and ends by itself.

What they aim at comes as JSON in their first argument (`tests.sandbox.prey`).
"""

ATTACKS = {
    "reads a secret in the environment of any process": """
for entry in os.listdir("/proc"):
    try:
        if entry.isdigit() and aim["secret"].encode() in open(f"/proc/{entry}/environ", "rb").read():
            got(entry)
    except OSError:
        pass
""",
    "has inherited the worker's variables": """
if aim["secret"] in str(os.environ):
    got("variables")
""",
    "reads a file of the worker by its path": "got(open(aim['file']).read())",
    "reads a file of the worker by way of its own folder": """
got(open(os.path.join(os.getcwd(), "../" * 30 + aim["file"])).read())
""",
    "reads a file of the worker over a symbolic link": """
with suppress(FileExistsError):
    os.symlink(aim["file"], "link")
got(open("link").read())
""",
    "reads a file of the worker over a folder that is a symbolic link": """
with suppress(FileExistsError):
    os.symlink("/", "root")
got(open("root" + aim["file"]).read())
""",
    "reads a file of the worker through the root of another process": """
for entry in os.listdir("/proc"):
    if entry.isdigit():
        with suppress(OSError):
            got(open(f"/proc/{entry}/root{aim['file']}").read())
        with suppress(OSError):
            got(open(f"/proc/{entry}/cwd/{'../' * 30}{aim['file']}").read())
""",
    "changes a mounted file that is read-only": """
path = os.path.join(aim["uploads"], "given.txt")
with suppress(OSError):
    os.chmod(path, 0o777)
open(path, "w").write("changed")
got("changed")
""",
    "stops another process": """
os.kill(aim["pid"], signal.SIGCONT)
got("signalled")
""",
    "traces another process": """
if libc.ptrace(16, aim["pid"], 0, 0) == 0:
    got("attached")
""",
    "reads the memory of another process": """
open(f"/proc/{aim['pid']}/mem", "rb")
got("opened")
""",
    "connects to the machine's loopback": """
socket.create_connection(("127.0.0.1", aim["port"]), timeout=20)
got("connected")
""",
    "connects to an abstract socket of the machine": """
there = socket.socket(socket.AF_UNIX)
there.settimeout(20)
there.connect("\\0" + aim["abstract"])
got("connected")
""",
    "connects to a socket of the machine by its path": """
there = socket.socket(socket.AF_UNIX)
there.settimeout(20)
there.connect(aim["socket"])
got("connected")
""",
    "has an open file of the worker": """
for entry in os.listdir("/proc/self/fd"):
    with suppress(OSError):
        if os.readlink(f"/proc/self/fd/{entry}") == aim["file"]:
            got(entry)
""",
    "opens a socket that no network namespace holds": """
for family in (40, 38):
    with suppress(OSError):
        got(socket.socket(family, socket.SOCK_STREAM if family == 40 else socket.SOCK_SEQPACKET))
""",
    "uses the keyring it has inherited": """
libc.syscall(numbers["keyctl"], 0, -3, 0)
if ctypes.get_errno() != errno.EPERM:
    got(ctypes.get_errno())
""",
    "types into a terminal": """
import fcntl, pty
child, main = pty.fork()
if child == 0:
    try:
        fcntl.ioctl(0, 0x5412, b"x")
        os._exit(0)
    except OSError as error:
        os._exit(error.errno)
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
# Newer kernels refuse it too, with another number, unless they are told otherwise.
if status != errno.EPERM:
    got(status)
""",
    "makes memory that no process maps": """
descriptor = libc.syscall(numbers["memfd_create"], b"x", 0)
if descriptor >= 0:
    got(descriptor)
""",
    "makes a large segment of shared memory": """
segment = libc.shmget(0, ctypes.c_size_t(1 << 30), 0o1600)
if segment >= 0:
    libc.shmctl(segment, 0, None)
    got(segment)
""",
    "makes a user namespace": """
if libc.unshare(0x10000000) == 0:
    got("unshared")
""",
    "makes many processes": """
children = []
try:
    for _ in range(aim["processes"]):
        child = os.fork()
        if child == 0:
            signal.pause()
        children.append(child)
    got(len(children))
except OSError as error:
    print(error)
finally:
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
""",
    "raises its own limits": """
import resource
soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
if hard == resource.RLIM_INFINITY or hard > aim["processes"]:
    got(hard)
resource.setrlimit(resource.RLIMIT_NPROC, (hard + 1, hard + 1))
got("raised")
""",
    "fills the memory behind its temporary files": """
for folder in ("/tmp", "/dev/shm"):
    path = f"{folder}/{os.getpid()}"
    try:
        with open(path, "wb") as file:
            for _ in range(aim["mebibytes"]):
                file.write(bytes(1 << 20))
        got(folder)
    except OSError as error:
        print(error)
    finally:
        os.unlink(path)
""",
}
"""All of these succeed outside a sandbox, so that each can tell a sandbox from none."""

HOPELESS = {
    "could run a program as its owner": """
for path in ("/usr", "/tmp", "/dev", "/run/sojourn/guest", os.getcwd()):
    if not os.statvfs(path).f_flag & os.ST_NOSUID:
        got(path)
if "NoNewPrivs:\\t1" not in open("/proc/self/status").read():
    got("new rights")
""",
    "connects to what clouds offer beside a machine": """
for host in ("169.254.169.254", "fd00:ec2::254", "10.0.0.1", "1.1.1.1"):
    with suppress(OSError):
        socket.create_connection((host, 80), timeout=5)
        got(host)
""",
    "writes to the system": """
guesses = ["/", "/usr", "/usr/bin", "/usr/local", "/etc", "/etc/ssl", "/bin", "/lib", "/dev", "/run", "/run/sojourn"]
guesses += ["/run/sojourn/guest", "/opt", "/mnt", "/mnt/session", "/home", "/proc", "/proc/sys", "/root", sys.prefix]
for folder in guesses:
    with suppress(OSError):
        open(os.path.join(folder, "mine"), "w")
        got(folder)
guesses = ["/etc/passwd", "/etc/resolv.conf", "/usr/bin/env", "/run/sojourn/guest/__main__.py", "/proc/sysrq-trigger"]
for file in (*guesses, sys.executable, os.__file__):
    with suppress(OSError):
        open(file, "r+")
        got(file)
""",
    "makes what it may write to of what it may not": """
for source, target, kind, flags in (
    (b"none", b"/tmp", b"tmpfs", 0),
    (b"/workspace", b"/usr", None, 4096),
    (b"none", b"/", None, 32),
    (b"none", b"/usr", None, 4096 | 32),
    (b"proc", b"/tmp", b"proc", 0),
):
    if libc.mount(source, target, kind, flags, None) == 0:
        got(target)
for number in (b"/", b"/usr", b"/proc", b"/tmp"):
    if libc.umount2(number, 2) == 0:
        got(number)
for flag in (0x00020000, 0x40000000, 0x20000000, 0x10000000 | 0x00020000, 0x02000000, 0x08000000, 0x04000000):
    if libc.unshare(flag) == 0:
        got(hex(flag))
for kind in ("pid", "mnt", "net", "user", "ipc", "uts"):
    with suppress(OSError):
        if libc.setns(os.open(f"/proc/1/ns/{kind}", os.O_RDONLY), 0) == 0:
            got(kind)
with suppress(OSError):
    os.chroot("/tmp")
    got("chroot")
""",
    "becomes somebody else": """
for user in (0, 1, 65534, 12345):
    with suppress(OSError):
        os.setuid(user)
        got(user)
    with suppress(OSError):
        os.setgroups([user])
        got(user)
    with suppress(OSError):
        os.chown(".", user, user)
        got(user)
for program in (["su", "-c", "true"], ["sudo", "-n", "true"], ["pkexec", "true"]):
    with suppress(OSError):
        done = subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
        if done.returncode == 0:
            got(program)
""",
    "has rights": """
for line in open("/proc/self/status"):
    if line.startswith("Cap") and int(line.split()[1], 16) or line.startswith("NoNewPrivs") and "1" not in line:
        got(line)
if os.getuid() == 0 or 0 in os.getgroups():
    got("root")
""",
    "makes devices": """
for kind in (0o020666, 0o060666):
    with suppress(OSError):
        os.mknod("device", kind, os.makedev(1, 1))
        got(kind)
for name in ("mem", "kmsg", "vda", "sda", "kvm", "fuse", "tty", "../proc/kcore", "../proc/kmsg"):
    with suppress(OSError):
        os.open(f"/dev/{name}", os.O_RDONLY | os.O_NONBLOCK)
        got(name)
""",
    "sees processes or folders of the machine": """
names = {open(f"/proc/{entry}/comm").read().strip() for entry in os.listdir("/proc") if entry.isdigit()}
if not all(name.startswith(("bwrap", "bash", "python")) for name in names):
    got(names)
known = {"bin", "dev", "etc", "home", "lib", "lib32", "lib64", "libx32", "mnt", "proc", "run", "sbin", "tmp", "usr"}
known |= {"workspace", sys.prefix.split("/")[1]}
strange = set(os.listdir("/")) - known
if strange:
    got(strange)
for name in ("/etc/shadow", "/etc/ssh", "/var", "/sys/kernel", "/home/agent/../../root/.ssh"):
    if os.path.exists(name):
        got(name)
""",
    "uses parts of the kernel that nobody needs": """
for name in ("bpf", "io_uring_setup", "perf_event_open", "userfaultfd", "add_key", "request_key", "open_by_handle_at"):
    if libc.syscall(numbers[name], 0, 0, 0, 0, 0) >= 0:
        got(name)
    elif ctypes.get_errno() not in (errno.EPERM, errno.ENOSYS):
        got(f"{name}: {ctypes.get_errno()}")
""",
    "hears of other sandboxes": """
for path in ("/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"):
    if len(open(path).readlines()) > 1:
        got(path)
if len(open("/proc/net/unix").readlines()) > 1 or len(open("/proc/net/dev").readlines()) > 3:
    got("network")
if socket.gethostname() == aim["host"]:
    got("name")
""",
}
"""Not tried outside: they would do harm there, or nothing."""

PREAMBLE = """
import ctypes, errno, json, os, platform, signal, socket, subprocess, sys
from contextlib import suppress

aim = json.loads(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
tables = {
    "x86_64": dict(keyctl=250, memfd_create=319, bpf=321, perf_event_open=298, userfaultfd=323, add_key=248,
                   request_key=249, open_by_handle_at=304, io_uring_setup=425),
    "aarch64": dict(keyctl=219, memfd_create=279, bpf=280, perf_event_open=241, userfaultfd=282, add_key=217,
                    request_key=218, open_by_handle_at=265, io_uring_setup=425),
}
numbers = tables[platform.machine()]

def got(what):
    print("GOT", what, flush=True)
"""


def program(name: str) -> str:
    """The attack as a Python program."""
    return PREAMBLE + (ATTACKS | HOPELESS)[name]
