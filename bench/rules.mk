# SPDX-License-Identifier: ISC
# make bench-spool [DIR=/path/on/the/disk] [SECONDS=2] [SIZE=5000]: the spool alone.
DIR ?= $(B)/bench/spool
SECONDS ?= 2
SIZE ?= 5000
$(B)/bench/spool_bench: $(B)/obj/bench/spool_bench.o $(COMMON_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
bench-spool: $(B)/bench/spool_bench
	@rm -rf $(DIR)
	$< $(DIR) $(SECONDS) $(SIZE)
	@rm -rf $(DIR)
.PHONY: bench-spool
