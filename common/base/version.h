/* SPDX-License-Identifier: ISC */
/* version.h - the version, in one place.
 * Used by:    $version_number, the banner, the Received: field, `bulkhead --version`. */
#ifndef BASE_VERSION_H
#define BASE_VERSION_H

#define BULKHEAD_VERSION "0.1"
#define BULKHEAD_BUILT __DATE__ " " __TIME__   /* SOURCE_DATE_EPOCH decides, where it is set */

#endif
