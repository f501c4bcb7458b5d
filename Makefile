# What C people type. `make help` lists the targets.

PREFIX      ?= /usr/local
LIBDIR      ?= $(PREFIX)/lib
INCLUDEDIR  ?= $(PREFIX)/include
BINDIR      ?= $(PREFIX)/bin
PKGCONFDIR  ?= $(LIBDIR)/pkgconfig
CMAKEDIR    ?= $(LIBDIR)/cmake/pgiam
DATADIR     ?= $(PREFIX)/share
MANDIR      ?= $(DATADIR)/man
BASHDIR     ?= $(DATADIR)/bash-completion/completions
ZSHDIR      ?= $(DATADIR)/zsh/site-functions
FISHDIR     ?= $(DATADIR)/fish/vendor_completions.d
UNITDIR     ?= $(PREFIX)/lib/systemd/system
# Where the unit finds pgiam, if not where it is installed.
UNIT_BINDIR ?= $(BINDIR)
# What pgiam.pc has as its prefix. '$${pcfiledir}/../..' makes a tree that can be moved.
PC_PREFIX   ?= $(PREFIX)
CARGO       ?= cargo
INSTALL     ?= install
# `make install STRIP=:` keeps symbols.
STRIP       ?= strip

# Cargo.toml is the one place that holds the version.
VERSION     := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
MAJOR       := $(firstword $(subst ., ,$(VERSION)))
TARGET_DIR  := $(or $(CARGO_TARGET_DIR),target)
RELEASE     := $(TARGET_DIR)/release

.PHONY: all help build products manual header demo check check-deep check-portability check-packages check-supply-chain bench bench-quick \
        dist install install-library install-development install-program uninstall clean

all: build

help:
	@echo 'make             build the libraries and the helper (release)'
	@echo 'make demo        set up, build and show psql, C, Python and Ruby logging in to a real PostgreSQL'
	@echo 'make check       set up and run the tests'
	@echo 'make check-deep  the slow rest: Valgrind, sanitizers, more clients'
	@echo 'make dist        set up, and build packages and tarballs for x86-64 and arm64 (needs root)'
	@echo 'make check-portability  set up, and log in from other Debian releases, arm64 and musl (needs root);'
	@echo '                 ARGS=--ci: a part of it'
	@echo 'make check-packages  install, use, upgrade and remove the packages of make dist (needs root)'
	@echo 'make check-supply-chain  licences, sources, advisories and bans of dependencies; two builds give the same bytes'
	@echo 'make bench       set up, and measure beside the AWS CLI and the AWS SDKs (docs/performance.md)'
	@echo 'make bench-quick the same without the peers that take long to build'
	@echo 'make install     PREFIX=$(PREFIX) DESTDIR= (docs/packaging.md has the other variables)'
	@echo 'make uninstall   the same PREFIX and DESTDIR'
	@echo 'make header      write include/pgiam.h anew from src/'
	@echo 'Before all of them, a fresh machine needs make and Rust: https://rustup.rs, or, on Debian 12 and 13,'
	@echo 'apt-get install rustc-web cargo-web rustfmt-web rust-web-clippy. The rest is installed by the targets that set up.'

build: products manual

# Without the folder that cargo unpacks crates in, whose path panic messages would contain hundreds of times. Cargo ignores
# the variable if RUSTFLAGS is set.
products:
	$(CARGO) fetch --locked --target "$$(rustc -vV | sed -n 's/^host: //p')"
	CARGO_BUILD_RUSTFLAGS="$$(printf -- '--remap-path-prefix=%s= ' $(or $(CARGO_HOME),$(HOME)/.cargo)/registry/src/*/)" \
	    $(CARGO) build --release --locked

# Manual pages and completions, from the same declarations as --help and from the header.
manual:
	$(CARGO) run --quiet --locked -p pgiam-cli --features manual -- --write-manual $(TARGET_DIR)/manual

# Packages and tarballs for x86-64 and arm64, glibc 2.17 and later and musl, in target/dist (docs/packaging.md).
dist:
	tools/setup dist
	tools/dist

check-portability:
	tools/setup portability
	tools/check-portability $(ARGS)

check-packages:
	tools/setup dist
	tools/check-packages

check-supply-chain:
	tools/setup dist
	tools/check-supply-chain $(ARGS)

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

# `make` first as yourself; `sudo make install` then needs no Rust. The three parts are the three packages of packaging/.
# BINARIES and MANUAL say what is installed: tools/dist installs products of other targets.
BINARIES    ?= $(RELEASE)
MANUAL      ?= $(TARGET_DIR)/manual
PUT          = $(INSTALL) -D -m
FILL         = sed -e 's|@PREFIX@|$(PC_PREFIX)|' -e 's|@VERSION@|$(VERSION)|g' -e 's|@MAJOR@|$(MAJOR)|g' \
                   -e 's|@LIBDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(LIBDIR))|' -e 's|@BINDIR@|$(UNIT_BINDIR)|g' \
                   -e 's|@INCLUDEDIR@|$(patsubst $(PREFIX)/%,$${prefix}/%,$(INCLUDEDIR))|' \
                   -e "s|@INCLUDE_FROM_LIB@|$$(realpath -m --relative-to='$(LIBDIR)' '$(INCLUDEDIR)')|"

install: install-library install-development install-program

install-library install-development install-program: | $(BINARIES)/pgiam
$(BINARIES)/pgiam:
	@echo 'run make first: $@ is missing' >&2; exit 1

install-library:
	$(PUT) 755 $(BINARIES)/libpgiam.so $(DESTDIR)$(LIBDIR)/libpgiam.so.$(VERSION)
	$(STRIP) --strip-unneeded $(DESTDIR)$(LIBDIR)/libpgiam.so.$(VERSION)
	ln -sf libpgiam.so.$(VERSION) $(DESTDIR)$(LIBDIR)/libpgiam.so.$(MAJOR)
	@test -n "$(DESTDIR)" || ldconfig 2>/dev/null || true

install-development:
	$(PUT) 644 include/pgiam.h $(DESTDIR)$(INCLUDEDIR)/pgiam.h
	$(PUT) 644 include/pgiam-libpq.h $(DESTDIR)$(INCLUDEDIR)/pgiam-libpq.h
	$(PUT) 644 $(BINARIES)/libpgiam.a $(DESTDIR)$(LIBDIR)/libpgiam.a
	$(STRIP) --strip-debug --enable-deterministic-archives $(DESTDIR)$(LIBDIR)/libpgiam.a
	ln -sf libpgiam.so.$(MAJOR) $(DESTDIR)$(LIBDIR)/libpgiam.so
	@for file in pkgconfig/pgiam.pc pkgconfig/pgiam-libpq.pc cmake/pgiam/pgiamConfig.cmake cmake/pgiam/pgiamConfigVersion.cmake; do \
	    case $$file in \
	        *.pc) to=$(DESTDIR)$(PKGCONFDIR)/$${file##*/} ;; \
	        *) to=$(DESTDIR)$(CMAKEDIR)/$${file##*/} ;; \
	    esac; \
	    $(PUT) 644 packaging/$${file##*/}.in $$to && $(FILL) packaging/$${file##*/}.in >$$to || exit; \
	done
	@for page in $(MANUAL)/man3/*.3; do \
	    test ! -e $$page || $(PUT) 644 $$page $(DESTDIR)$(MANDIR)/man3/$${page##*/} || exit; done

# The preload library needs the dynamic loader: there is none for the static program's targets.
install-program:
	$(PUT) 755 $(BINARIES)/pgiam $(DESTDIR)$(BINDIR)/pgiam
	$(STRIP) $(DESTDIR)$(BINDIR)/pgiam
	$(PUT) 755 crates/pgiam-cli/psql-iam $(DESTDIR)$(BINDIR)/psql-iam
	@test ! -e $(BINARIES)/libpgiam_preload.so || { \
	    $(PUT) 755 $(BINARIES)/libpgiam_preload.so $(DESTDIR)$(LIBDIR)/libpgiam_preload.so && \
	    $(STRIP) --strip-unneeded $(DESTDIR)$(LIBDIR)/libpgiam_preload.so; }
	$(PUT) 644 packaging/pgiam-passfile@.service.in $(DESTDIR)$(UNITDIR)/pgiam-passfile@.service
	@$(FILL) packaging/pgiam-passfile@.service.in >$(DESTDIR)$(UNITDIR)/pgiam-passfile@.service
	@for page in $(MANUAL)/man1/*.1; do \
	    test ! -e $$page || $(PUT) 644 $$page $(DESTDIR)$(MANDIR)/man1/$${page##*/} || exit; done
	@test ! -e $(MANUAL)/completions || { \
	    $(PUT) 644 $(MANUAL)/completions/pgiam.bash $(DESTDIR)$(BASHDIR)/pgiam && \
	    $(PUT) 644 $(MANUAL)/completions/_pgiam $(DESTDIR)$(ZSHDIR)/_pgiam && \
	    $(PUT) 644 $(MANUAL)/completions/pgiam.fish $(DESTDIR)$(FISHDIR)/pgiam.fish; }

uninstall:
	cd $(DESTDIR)$(LIBDIR) && rm -f libpgiam.so.$(VERSION) libpgiam.so.$(MAJOR) libpgiam.so libpgiam.a libpgiam_preload.so
	cd $(DESTDIR)$(INCLUDEDIR) && rm -f pgiam.h pgiam-libpq.h
	cd $(DESTDIR)$(PKGCONFDIR) && rm -f pgiam.pc pgiam-libpq.pc
	cd $(DESTDIR)$(BINDIR) && rm -f pgiam psql-iam
	rm -f $(DESTDIR)$(UNITDIR)/pgiam-passfile@.service
	rm -rf $(DESTDIR)$(CMAKEDIR)
	rm -f $(DESTDIR)$(MANDIR)/man1/pgiam.1 $(DESTDIR)$(MANDIR)/man1/pgiam-*.1 $(DESTDIR)$(MANDIR)/man1/psql-iam.1
	rm -f $(DESTDIR)$(MANDIR)/man3/libpgiam.3 $(DESTDIR)$(MANDIR)/man3/pgiam-libpq.3 $(DESTDIR)$(MANDIR)/man3/pgiam_*.3
	rm -f $(DESTDIR)$(BASHDIR)/pgiam $(DESTDIR)$(ZSHDIR)/_pgiam $(DESTDIR)$(FISHDIR)/pgiam.fish

clean:
	$(CARGO) clean
