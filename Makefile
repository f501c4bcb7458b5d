# What C people type. `make help` lists the targets.

PREFIX      ?= /usr/local
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
BINDIR      ?= $(PREFIX)/bin
PKGCONFDIR  ?= $(LIBDIR)/pkgconfig
CARGO       ?= cargo
INSTALL     ?= install

# Cargo.toml is the one place that holds the version.
VERSION     := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
MAJOR       := $(firstword $(subst ., ,$(VERSION)))
TARGET_DIR  := $(or $(CARGO_TARGET_DIR),target)
RELEASE     := $(TARGET_DIR)/release

.PHONY: all help build header demo check check-deep bench bench-quick install uninstall clean

all: build

help:
	@echo 'make             build the libraries and the helper (release)'
	@echo 'make demo        set up, build and show psql, C, Python and Ruby logging in to a real PostgreSQL'
	@echo 'make check       set up and run the tests'
	@echo 'make check-deep  the slow rest: Valgrind, AddressSanitizer, more clients'
	@echo 'make bench       set up, and measure beside the AWS CLI and the AWS SDKs (docs/performance.md)'
	@echo 'make bench-quick the same without the peers that take long to build'
	@echo 'make install     PREFIX=$(PREFIX) DESTDIR='
	@echo 'make uninstall   the same PREFIX and DESTDIR'
	@echo 'make header      write include/pgiam.h anew from src/'

build:
	$(CARGO) build --release --locked

header:
	PGIAM_BLESS=1 $(CARGO) test --locked --test suite header::the_header_is_what_the_source_says

demo:
	tools/setup demo
	tools/demo

check:
	tools/setup check
	tools/check

check-deep:
	tools/setup deep
	tools/check --deep

bench:
	tools/setup bench
	benches/run

# Needs neither Node nor the AWS SDK for Rust.
bench-quick:
	tools/setup check
	benches/run --quick

# `make build` first as yourself; `sudo make install` then needs no Rust.
install:
	@test -e $(RELEASE)/libpgiam.so || { echo 'run make first: $(RELEASE)/libpgiam.so is missing' >&2; exit 1; }
	$(INSTALL) -d $(DESTDIR)$(LIBDIR) $(DESTDIR)$(PKGCONFDIR) $(DESTDIR)$(INCLUDEDIR) $(DESTDIR)$(BINDIR)
	$(INSTALL) -m 755 $(RELEASE)/libpgiam.so $(DESTDIR)$(LIBDIR)/libpgiam.so.$(VERSION)
	ln -sf libpgiam.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libpgiam.so.$(MAJOR)
	ln -sf libpgiam.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libpgiam.so
	$(INSTALL) -m 644 $(RELEASE)/libpgiam.a $(DESTDIR)$(LIBDIR)/libpgiam.a
	$(INSTALL) -m 755 $(RELEASE)/libpgiam_preload.so $(DESTDIR)$(LIBDIR)/libpgiam_preload.so
	$(INSTALL) -m 644 include/pgiam.h include/pgiam-libpq.h $(DESTDIR)$(INCLUDEDIR)
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@LIBDIR@|$(LIBDIR)|' -e 's|@INCLUDEDIR@|$(INCLUDEDIR)|' \
	    -e 's|@VERSION@|$(VERSION)|' pgiam.pc.in > $(DESTDIR)$(PKGCONFDIR)/pgiam.pc
	chmod 644 $(DESTDIR)$(PKGCONFDIR)/pgiam.pc
	$(INSTALL) -m 755 $(RELEASE)/pgiam $(DESTDIR)$(BINDIR)/pgiam
	$(INSTALL) -m 755 crates/pgiam-cli/psql-iam $(DESTDIR)$(BINDIR)/psql-iam
	@test -n "$(DESTDIR)" || ldconfig 2>/dev/null || true

uninstall:
	rm -f $(DESTDIR)$(LIBDIR)/libpgiam.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libpgiam.so.$(MAJOR) \
	      $(DESTDIR)$(LIBDIR)/libpgiam.so $(DESTDIR)$(LIBDIR)/libpgiam.a $(DESTDIR)$(LIBDIR)/libpgiam_preload.so \
	      $(DESTDIR)$(INCLUDEDIR)/pgiam.h $(DESTDIR)$(INCLUDEDIR)/pgiam-libpq.h \
	      $(DESTDIR)$(PKGCONFDIR)/pgiam.pc $(DESTDIR)$(BINDIR)/pgiam $(DESTDIR)$(BINDIR)/psql-iam

clean:
	$(CARGO) clean
