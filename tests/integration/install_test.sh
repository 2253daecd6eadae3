#!/usr/bin/env bash
# What a package holds: installed somewhere, an application is built against it with pkg-config alone, shared and
# static, and runs against the installed broker. Nothing of the build or source tree is used behind the installation.
. "$(dirname "$0")/lib.sh"
build=$(dirname "$bin")
source=$(sed -n 's/^CMAKE_HOME_DIRECTORY:INTERNAL=//p' "$build/CMakeCache.txt")
root=$work/root
command -v pkg-config >/dev/null || skip "no pkg-config"

cmake --install "$build" --prefix "$root" >"$work/install.log" || { cat "$work/install.log"; fail "cmake --install"; }
libdir=$(sed -n 's/^CMAKE_INSTALL_LIBDIR:[A-Z]*=//p' "$build/CMakeCache.txt")
share=$root/share
for file in bin/sluiced bin/sluicectl bin/sluice-bench "$libdir/libsluice.so" "$libdir/libsluice.a" include/sluice.h \
  "$libdir/pkgconfig/sluice.pc" share/man/man1/sluicectl.1 share/man/man1/sluice-bench.1 share/man/man3/libsluice.3 \
  share/man/man8/sluiced.8 share/bash-completion/completions/sluicectl share/doc/sluice/README.md \
  share/doc/sluice/protocol.md share/doc/sluice/examples/publish.c etc/sluice/sluiced.conf; do
  [ -f "$root/$file" ] || fail "not installed: $file"
done
if (cd "$root" && find . -type f) | grep -vx ./share/doc/sluice/testing.md | grep -E 'test|crash|main-job|sluice-(sim|soak|sweep|bitrot)'; then fail "installed, but made for tests"; fi

# The tree may be moved as a whole: nothing in it knows where it was made.
mv "$root" "$work/moved"
root=$work/moved share=$root/share
export PKG_CONFIG_PATH=$root/$libdir/pkgconfig
[ "$(pkg-config --modversion sluice)" = "$("$root/bin/sluiced" --version | cut -d' ' -f2)" ] || fail "versions differ"
read -ra flags <<<"$(pkg-config --cflags --libs sluice)"
read -ra cflags <<<"$(pkg-config --cflags sluice)"
read -ra static <<<"$(pkg-config --libs --static sluice | sed 's/-lsluice/-Wl,-Bstatic -lsluice -Wl,-Bdynamic/')"
cc=(cc -std=c17 -Wall -Wextra -Werror -pedantic -D_GNU_SOURCE)
mkdir "$work/programs"
cd "$work/programs"
for example in "$share"/doc/sluice/examples/*.c; do
  name=$(basename "$example" .c)
  "${cc[@]}" "$example" "${flags[@]}" -o "$name" || fail "$name does not compile"
  "${cc[@]}" "${cflags[@]}" "$example" "${static[@]}" -o "$name-static" || fail "$name does not link statically"
done
# The program in the header's first comment is one, too. And the header is C++.
sed -n '/^ \*     #include <sluice.h>/,/cc greet.c/p' "$root/include/sluice.h" | sed 's/^ \*\( \{5\}\)\{0,1\}//; s/, .server = "[^"]*"//; $d' >greet.c
[ "$(grep -c main greet.c)" -eq 1 ] || fail "the header's example is not where it was"
"${cc[@]}" -Wno-unused-parameter greet.c "${flags[@]}" -o greet || fail "the header's example does not compile"
if command -v c++ >/dev/null; then
  printf '#include <sluice.h>\nint main() { return sluice_version()[0] == 0; }\n' >plus.cc
  c++ -Wall -Werror plus.cc "${flags[@]}" -o plus || fail "sluice.h is not C++"
fi

# Only sluice.h's functions can be seen, in both.
declared=$(grep -oE '^SLUICE_API .*[ *](sluice_[a-z_]+)\(' "$root/include/sluice.h" | sed -E 's/.*[ *](sluice_[a-z_]+)\($/\1/' | sort)
if command -v nm >/dev/null; then
  for library in so a; do
    [ $library = so ] && kind=-D || kind=-g
    seen=$(nm $kind --defined-only "$root/$libdir/libsluice.$library" | awk 'NF == 3 {print $3}' | sort)
    [ "$seen" = "$declared" ] || { diff <(echo "$declared") <(echo "$seen") || true; fail "libsluice.$library shows other names"; }
  done
fi
if ldd publish-static | grep -q libsluice; then fail "publish-static is not static"; fi

# Installed programs against each other.
installed=$bin
bin=$root/bin
start --config "$root/etc/sluice/sluiced.conf"
ctl topic create numbers --partitions 3 >/dev/null
ctl topic create greetings >/dev/null
export LD_LIBRARY_PATH=$root/$libdir
seq 1 5000 | ./publish numbers >"$work/out"
expect_text "$work/out" '^5000 stored, 0 lost$'
env -u LD_LIBRARY_PATH ./greet 2>/dev/null && fail "the shared library was found in the wrong place"
./greet || fail "greet: exit $?"
unset LD_LIBRARY_PATH
seq 5001 10000 | ./publish-static numbers >"$work/out"
expect_text "$work/out" '^5000 stored, 0 lost$'
ctl consume numbers --from beginning --until-end | sort -n >"$work/numbers"
seq 1 10000 >"$work/expected"
same "$work/expected" "$work/numbers"
ctl consume greetings --from beginning --until-end >"$work/out"
expect_text "$work/out" '^hello$'
stop || fail "stop: exit $?"

# The completion is bash that loads.
bash -c ". '$share/bash-completion/completions/sluicectl' && complete -p sluicectl" >/dev/null || fail "completion"
# What stands in the man pages' and texts' place is what the sources hold.
same "$source/docs/man/sluiced.8" "$share/man/man8/sluiced.8"
bin=$installed
echo "what is installed is enough"
