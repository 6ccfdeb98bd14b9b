/*
 * errno_class.c: what an errno means for whoever moves bytes: the end of a
 * connection, or a refusal of this way for this pair.
 */
#include "base/errno_class.h"

#include <errno.h>

int sio_is_disconnect(int err)
{
	return err == EPIPE || err == ECONNRESET || err == ECONNABORTED ||
	       err == ETIMEDOUT || err == EHOSTUNREACH || err == ENETUNREACH;
}

/* EBADF is how copy_file_range refuses O_APPEND. */
int sio_is_refusal(int err)
{
	return err == EINVAL || err == ENOSYS || err == EPERM ||
	       err == EOPNOTSUPP || err == EXDEV || err == EBADF ||
	       err == EACCES || err == ENOTTY || err == ETXTBSY;
}
