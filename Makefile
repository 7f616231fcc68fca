# SPDX-License-Identifier: ISC
# One Makefile, not recursive. Every folder is a list: a new file needs no edit here.
#   make                builds everything into build/
#   make SAN=address,undefined   the same with sanitizers, into build-san/
#   make CC=clang       the other compiler
# Folders add fragments: master/rules.mk and so on. README names the targets for people.
all:
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:

CC = gcc
# make V=1 shows the commands
Q := $(if $(V),,@)
PKGS := libevent_core libldns lmdb hiredis libbsd libidn2 libpcre2-8 libseccomp jansson openssl
PKG_FLAGS := $(shell pkg-config --cflags libevent_core hiredis libidn2 libpcre2-8 libseccomp jansson openssl 2>/dev/null)
SAN ?=
# make FUZZ=1: clang with libFuzzer's instrumentation and both sanitizers, into build-fuzz/
ifdef FUZZ
override CC = clang
override SAN = address,undefined
endif
B := $(if $(FUZZ),build-fuzz,build$(if $(SAN),-san)$(if $(findstring clang,$(CC)),-clang))
OPT ?= -O2 -g
WARN := -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wswitch-enum -Wvla \
	-Wpointer-arith -Wwrite-strings -Wundef -Wold-style-definition -Wno-missing-field-initializers
HARDEN := -fstack-protector-strong -D_FORTIFY_SOURCE=2 -fPIE -fno-strict-aliasing
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all -U_FORTIFY_SOURCE) \
	$(if $(FUZZ),-fsanitize=fuzzer-no-link)
CFLAGS = -std=gnu11 $(OPT) $(WARN) $(HARDEN) $(SANFLAGS)
CPPFLAGS = -I. -I$(B) -D_GNU_SOURCE $(PKG_FLAGS)
LDFLAGS = -pie -Wl,-z,relro,-z,now $(SANFLAGS)
LIBS = -lm -levent_core -lldns -llmdb -lhiredis -lbsd -lidn2 -lunistring -lpcre2-8 -lseccomp -ljansson -lssl -lcrypto -lcrypt -lpthread -ldl
LDLIBS = -Wl,--as-needed $(LIBS)
# Lookups by libraries that may be absent: built in where pkg-config knows them. gen/have.h says which, 0 or 1; it is written anew
# only when the answer changes, so that a library installed later is noticed.
OPTIONAL := SQLITE:sqlite3 PGSQL:libpq MYSQL:libmariadb CDB:libcdb PSL:libpsl
OPT_NAME = $(firstword $(subst :, ,$(1)))
OPT_PKG = $(lastword $(subst :, ,$(1)))
OPT_THERE := $(foreach o,$(OPTIONAL),$(if $(shell pkg-config --exists $(call OPT_PKG,$(o)) && echo y),$(o)))
PKG_FLAGS += $(foreach o,$(OPT_THERE),$(shell pkg-config --cflags $(call OPT_PKG,$(o))))
LIBS += $(foreach o,$(OPT_THERE),$(shell pkg-config --libs $(call OPT_PKG,$(o))))
# Berkeley DB has no file for pkg-config: its header is asked.
DB_THERE := $(filter 5 6,$(shell echo DB_VERSION_MAJOR | $(CC) -E -P -include db.h - 2>/dev/null | tail -n 1))
LIBS += $(if $(DB_THERE),-ldb)
HAVE_H := $(B)/gen/have.h
HASH := \#
$(shell mkdir -p $(B)/gen; { echo '/* made by the Makefile */'; \
	$(foreach o,$(OPTIONAL),echo '$(HASH)define HAVE_$(call OPT_NAME,$(o)) $(if $(filter $(o),$(OPT_THERE)),1,0)';) \
	echo '$(HASH)define HAVE_DB $(if $(DB_THERE),1,0)'; } >$(HAVE_H).$$$$; cmp -s $(HAVE_H).$$$$ $(HAVE_H) && rm -f $(HAVE_H).$$$$ || mv $(HAVE_H).$$$$ $(HAVE_H))

SUBJECTS := base event ipc conf mail spool dns tls lang sign dsn daemon
DAEMONS := master smtpd policyd router qmgr smtp-out local queuefile keyd

COMMON_SRC := $(foreach s,$(SUBJECTS),$(wildcard common/$(s)/*.c))
COMMON_OBJ := $(COMMON_SRC:%.c=$(B)/obj/%.o)
COMMON_LIB := $(B)/libcommon.a

$(B)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(COMMON_LIB): $(COMMON_OBJ)
	@rm -f $@
	$(Q)$(AR) rcs $@ $^

# One executable a daemon: all of its folder and what it uses of common/.
define daemon_rule
$(1)_SRC := $$(wildcard $(1)/*.c)
$(1)_OBJ := $$($(1)_SRC:%.c=$(B)/obj/%.o)
ifneq ($$(wildcard $(1)/main.c),)
all: $(B)/libexec/$(1)
endif
$(B)/libexec/$(1): $$($(1)_OBJ) $(COMMON_LIB)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $$@ $$^ $$(LDLIBS)
# The daemon without its main(), for unit tests and fuzz targets.
$(B)/lib$(1).a: $$(filter-out %/main.o,$$($(1)_OBJ))
	@rm -f $$@
	$(Q)$(AR) rcs $$@ $$^
endef
$(foreach d,$(DAEMONS),$(eval $(call daemon_rule,$(d))))

include $(sort $(wildcard */rules.mk))

-include $(shell find $(B)/obj -name '*.d' 2>/dev/null)

clean:
	rm -rf build build-san build-clang build-san-clang build-fuzz

.PHONY: all clean

# ---- the two commands for people, and what they stand on ----
quickstart: deps-build
	$(Q)$(MAKE) -s -j$$(nproc) all
	$(Q)scripts/quickstart
deps-build:
	@scripts/deps build
deps-test:
	@scripts/deps build test
check: deps-test
	$(Q)$(MAKE) -s -j$$(nproc) all
	$(Q)tests/run $(PARTS)
# Several hosts, each its own container (tests/compose/run); needs root.
check-compose: deps-test
	@scripts/deps compose
	$(Q)tests/compose/run
# Includes point downward only: a subject of common/ uses those before it, a daemon uses common/ and itself.
layers:
	@scripts/layers $(SUBJECTS) -- $(DAEMONS) ctl
.PHONY: quickstart deps-build deps-test check check-compose layers
