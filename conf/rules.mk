# SPDX-License-Identifier: ISC
# make install [DESTDIR=...] [PREFIX=/usr] [SYSCONFDIR=/etc]
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
LIBEXECDIR ?= $(PREFIX)/libexec/bulkhead
UNITDIR ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
TMPFILESDIR ?= $(PREFIX)/lib/tmpfiles.d
MANDIR ?= $(PREFIX)/share/man
DOCDIR ?= $(PREFIX)/share/doc/bulkhead
CPPFLAGS += -DBULKHEAD_LIBEXECDIR='"$(LIBEXECDIR)"' -DBULKHEAD_CONFIG='"$(SYSCONFDIR)/bulkhead/bulkhead.conf"'
# The command knows its daemons' and its configuration's place: compiled anew where "make" and "make install" were given others.
PATHS := $(B)/gen/paths
$(shell mkdir -p $(B)/gen; echo '$(LIBEXECDIR) $(SYSCONFDIR)' | cmp -s - $(PATHS) || echo '$(LIBEXECDIR) $(SYSCONFDIR)' >$(PATHS))
$(B)/obj/ctl/ctl_config.o: $(PATHS)
fill = sed -e 's|@PREFIX@|$(PREFIX)|g; s|@LIBEXECDIR@|$(LIBEXECDIR)|g; s|@SYSCONFDIR@|$(SYSCONFDIR)|g'

install: all man
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(LIBEXECDIR) $(DESTDIR)$(SYSCONFDIR)/bulkhead \
		$(DESTDIR)$(UNITDIR) $(DESTDIR)$(SYSUSERSDIR) $(DESTDIR)$(TMPFILESDIR) $(DESTDIR)$(DOCDIR)/examples
	install -m 755 $(B)/bin/bulkhead $(DESTDIR)$(PREFIX)/sbin/bulkhead
	ln -sf bulkhead $(DESTDIR)$(PREFIX)/sbin/sendmail
	ln -sf ../sbin/bulkhead $(DESTDIR)$(PREFIX)/bin/mailq
	install -m 755 $(foreach d,$(DAEMONS),$(if $($(d)_SRC),$(B)/libexec/$(d))) $(DESTDIR)$(LIBEXECDIR)/
	[ -e $(DESTDIR)$(SYSCONFDIR)/bulkhead/bulkhead.conf ] || \
		install -m 644 conf/bulkhead.conf $(DESTDIR)$(SYSCONFDIR)/bulkhead/bulkhead.conf
	install -m 644 conf/*.conf $(DESTDIR)$(DOCDIR)/examples/
	install -m 644 docs/*.md README.md LICENSE $(DESTDIR)$(DOCDIR)/
	$(fill) conf/bulkhead.service >$(DESTDIR)$(UNITDIR)/bulkhead.service
	install -m 644 conf/bulkhead.sysusers $(DESTDIR)$(SYSUSERSDIR)/bulkhead.conf
	install -m 644 conf/bulkhead.tmpfiles $(DESTDIR)$(TMPFILESDIR)/bulkhead.conf
	for m in $(B)/man/*.[1578]; do \
		d=$(DESTDIR)$(MANDIR)/man$${m##*.}; install -d $$d; install -m 644 $$m $$d/; done
.PHONY: install
