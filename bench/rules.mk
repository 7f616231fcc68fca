# SPDX-License-Identifier: ISC
# make bench-spool [BENCH_DIR=/path/on/the/disk] [BENCH_SECONDS=2] [BENCH_SIZE=5000]: the spool alone.
BENCH_DIR ?= $(B)/bench/spool
BENCH_SECONDS ?= 2
BENCH_SIZE ?= 5000
$(B)/bench/spool_bench: $(B)/obj/bench/spool_bench.o $(COMMON_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
bench-spool: $(B)/bench/spool_bench
	@rm -rf $(BENCH_DIR)
	$< $(BENCH_DIR) $(BENCH_SECONDS) $(BENCH_SIZE)
	@rm -rf $(BENCH_DIR)
.PHONY: bench-spool
# make bench-lang: expansions and ACL runs a second beside Exim's (bench/lang.py).
$(B)/bench/lang_bench: $(B)/obj/bench/lang_bench.o $(COMMON_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
bench-lang: all $(B)/bench/lang_bench
	bench/lang.py
.PHONY: bench-lang
# make bench-tls: what it costs that keys live in keyd (bench/tls_bench.c); bench/run.sh tls compares whole servers.
$(B)/bench/tls_bench: $(B)/obj/bench/tls_bench.o $(B)/libkeyd.a $(COMMON_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/bench/tlsload: $(B)/obj/bench/tlsload.o
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS) -pthread
bench-tls: $(B)/bench/tls_bench
	bench/tls_keys.sh $<
.PHONY: bench-tls
