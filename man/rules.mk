# SPDX-License-Identifier: ISC
# make man: every page into build/man. Pages named *.in are filled in from the tables by man/options.c.
# make man-lint: all of them through mandoc.
MAN_PLAIN := $(wildcard man/*.[1578])
MAN_MADE := $(patsubst man/%.in,$(B)/man/%,$(wildcard man/*.in))
MAN := $(MAN_PLAIN:man/%=$(B)/man/%) $(MAN_MADE)

$(MAN_PLAIN:man/%=$(B)/man/%): $(B)/man/%: man/%
	@mkdir -p $(@D)
	$(Q)cp $< $@
$(B)/man-options: $(B)/obj/man/options.o $(COMMON_LIB)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(MAN_MADE): $(B)/man/%: man/%.in $(B)/man-options
	@mkdir -p $(@D)
	$(Q)$(B)/man-options <$< >$@

all: man
man: $(MAN)
# Pages that are not installed here are no fault of the pages that name them.
man-lint: $(MAN)
	@! mandoc -Tlint -W style $(MAN) | grep -v 'referenced manual not found'
.PHONY: man man-lint
