#!/bin/sh
# The steps of the build, in one layer.
set -eu
cd /tmp/context
python3 check.py base

if [ -n "$ROOT" ]; then
    command -v apt-get >/dev/null || { echo "error: the base has no apt-get: take one of Debian or Ubuntu" >&2; exit 1; }
    if ! command -v c++ >/dev/null; then # its headers stay, which ROOT's interpreter needs
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends g++ >/tmp/apt.log 2>&1 \
            || { tail -n 5 /tmp/apt.log >&2; exit 1; }
    fi
fi

mv site /opt/worker
export PYTHONPATH=/opt/worker HOME=/tmp OPENBLAS_NUM_THREADS=1
if [ -n "$ROOT" ]; then
    python3 trim.py root
    python3 -m PyRDF.precompiled
    c++ -xc++ -E -v /dev/null >/opt/worker/headers 2>&1
fi
python3 trim.py system
if [ -n "$ROOT" ]; then
    # When it starts, ROOT's interpreter asks the compiler where its headers are, and no more.
    printf '#!/bin/sh\nexec cat /opt/worker/headers >&2\n' >/usr/local/bin/c++
    chmod 755 /usr/local/bin/c++
    ln -sf c++ /usr/local/bin/g++
fi
python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/worker >/dev/null || true # templates of tools
python3 check.py image # it leaves bytecode and ROOT's index of modules behind
chmod -R a+rX /opt/worker
rm -rf /tmp/* /tmp/.[!.]* /root/.[!.]*
