# SPDX-License-Identifier: ISC
# The command, under its three names.
CTL_OBJ := $(patsubst %.c,$(B)/obj/%.o,$(wildcard ctl/*.c))
$(B)/bin/bulkhead: $(CTL_OBJ) $(COMMON_LIB)
	@mkdir -p $(@D)
	$(Q)$(CC) $(CFLAGS) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(B)/bin/sendmail $(B)/bin/mailq: $(B)/bin/bulkhead
	@ln -sf bulkhead $@
all: $(B)/bin/bulkhead $(B)/bin/sendmail $(B)/bin/mailq
# The command's code without its main(), for unit tests named ctl_*.
$(B)/libctl.a: $(filter-out %/main.o,$(CTL_OBJ))
	@rm -f $@
	$(Q)$(AR) rcs $@ $^
