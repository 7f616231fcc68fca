# SPDX-License-Identifier: ISC
# Unit tests: tests/unit/NAME_test.c, one cmocka program each. A name that begins with a daemon's ("smtpd_", "smtp_out_")
# links that daemon's code too, without its main(). Fuzz targets: tests/fuzz/NAME_fuzz.c, likewise, seeds in
# tests/fuzz/corpus/NAME/, dictionary tests/fuzz/NAME.dict.
UNIT_SRC := $(wildcard tests/unit/*_test.c)
UNIT_BIN := $(UNIT_SRC:tests/unit/%.c=$(B)/unit/%)
FUZZ_SRC := $(wildcard tests/fuzz/*_fuzz.c)
FUZZ_BIN := $(FUZZ_SRC:tests/fuzz/%.c=$(B)/fuzz/%)
daemon_lib_for = $(foreach d,$(DAEMONS) ctl,$(if $(filter $(subst -,_,$(d))_%,$(1)),$(B)/lib$(d).a))

define test_rule
$(B)/$(2)/$(1): $(B)/obj/tests/$(2)/$(1).o $(call daemon_lib_for,$(1)) $(COMMON_LIB)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) $(3) -o $$@ $$^ $(LDLIBS) $(4)
endef
$(foreach t,$(UNIT_BIN),$(eval $(call test_rule,$(notdir $(t)),unit,,-lcmocka)))
$(foreach t,$(FUZZ_BIN),$(eval $(call test_rule,$(notdir $(t)),fuzz,$(if $(FUZZ),-fsanitize=fuzzer),)))

unit-build: $(UNIT_BIN)
fuzz-build-only: $(FUZZ_BIN)

# make unit, make unit T=ipc_codec_test
unit: $(if $(T),$(B)/unit/$(T),$(UNIT_BIN))
	@set -e; for t in $^; do echo "== $${t##*/}"; $$t; done

# make fuzz: each target for FUZZ_SECONDS; the same from a short bounded run in make check.
FUZZ_SECONDS ?= 60
fuzz-build:
	$(MAKE) FUZZ=1 fuzz-build-only
fuzz: fuzz-build
	tests/fuzz/run $(FUZZ_SECONDS) $(T)

.PHONY: unit unit-build fuzz fuzz-build fuzz-build-only
