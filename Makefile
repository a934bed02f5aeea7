# A short way to say it; meson.build holds the build itself.
B	?= build
SAN	?=
CC	?= gcc
MESONFLAGS ?=

# `make SAN=1 check`: address and undefined-behaviour sanitizers, own folder.
ifeq ($(SAN),1)
B	:= build-san
MESONFLAGS += -Db_sanitize=address,undefined -Db_lundef=false
export ASAN_OPTIONS ?= detect_leaks=1:abort_on_error=1
export UBSAN_OPTIONS ?= halt_on_error=1:print_stacktrace=1
endif

.PHONY: all check failures soak lab bench demo fuzz install lint format clean

all: $(B)/build.ninja
	@ninja -C $(B)

$(B)/build.ninja:
	@CC=$(CC) meson setup $(MESONFLAGS) $(B)

# Unit and KVM rings; what cannot run here is skipped by name.
check: all
	@tools/test $(B) unit probe kvm lint

# Each failure at each message of a migration, some ten minutes; C=cause.
failures: all
	@tests/kvm/failures_test.py $(B) $(if $(C),$(C),all)

# What `make check` does a few times, as often as it is promised; some twenty
# minutes.
soak: all
	@tools/test $(B) slow
	@PAGURUS_MIGRATIONS=100 tests/kvm/migrate_test.py $(B) there_and_back
	@tests/kvm/failures_test.py $(B) all

# `make lab S=smoke` runs one scenario, `make lab` all of them.  The failure
# matrix needs no virtual hosts: two sets of processes on this one do.
ifeq ($(S),migrate-failures)
lab: failures
else
lab: all
	@lab/run $(if $(S),$(S),all)
endif

bench: all
	@tools/bench $(B)

demo: all
	@tools/demo $(B)

# Each fuzzer for T seconds (default 60).
fuzz:
	@tools/fuzz $(if $(T),$(T),60)

install: all
	@meson install -C $(B)

lint: all
	@tools/lint $(B)

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

clean:
	rm -rf build build-san build-fuzz
