/* SPDX-License-Identifier: ISC */
/* The reader of the configuration: any text gives a configuration or problems; what was read goes through a view unchanged. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "common/conf/read.h"
#include "common/conf/view.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct conf_source source = { .path = "fuzz", .text = (const char *)data, .text_len = size, .isolated = true };
	struct conf *conf, *view;
	struct buf first = BUF_INIT, second = BUF_INIT;
	struct err err = ERR_INIT;

	/* the first octet chooses: a text, or the octets of a view */
	if (size && data[0] == 0xff) {
		if (conf_view_decode(str_make((const char *)data + 1, size - 1), &view, &err) == ST_OK)
			conf_free(view);
		return 0;
	}
	conf_read(&source, &conf);
	conf_check(conf, NULL);
	if (!conf->n_errors) {
		bug_on(conf_view_encode(conf, V_ALL, &first, &err) != ST_OK);
		bug_on(conf_view_decode(buf_str(&first), &view, &err) != ST_OK);
		bug_on(conf_view_encode(view, V_ALL, &second, &err) != ST_OK);
		bug_on(!str_eq(buf_str(&first), buf_str(&second)));
		conf_free(view);
	}
	conf_free(conf);
	buf_clear(&first);
	buf_clear(&second);
	return 0;
}
