#include "pdev/vfio_user_proto.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

#include "base/util.h"

/* A count that somebody will divide by or allocate: 1..max. */
static int positive(const json_t *obj, const char *key, uint64_t max,
		    uint64_t *v, uint32_t bit, uint32_t *named)
{
	const json_t *j = json_object_get(obj, key);
	json_int_t n;

	if (!j)
		return 0;
	if (!json_is_integer(j))
		return -EINVAL;
	n = json_integer_value(j);
	if (n < 1)
		return -EINVAL;
	*v = MIN((uint64_t)n, max);
	*named |= bit;
	return 0;
}

static int parse_object(const json_t *caps, struct vfio_user_caps *c)
{
	uint64_t fds = c->max_msg_fds, xfer = c->max_data_xfer_size;
	uint64_t maps = c->max_dma_maps;
	const json_t *multi;
	int ret;

	if (!json_is_object(caps))
		return -EINVAL;
	ret = positive(caps, "max_msg_fds", INT32_MAX, &fds, VFIO_USER_CAP_FDS,
		       &c->named);
	if (ret == 0)
		ret = positive(caps, "max_data_xfer_size", UINT32_MAX, &xfer,
			       VFIO_USER_CAP_XFER, &c->named);
	if (ret == 0)
		ret = positive(caps, "max_dma_maps", UINT32_MAX, &maps,
			       VFIO_USER_CAP_MAPS, &c->named);
	if (ret == 0)
		ret = positive(caps, "pgsizes", INT64_MAX, &c->pgsizes,
			       VFIO_USER_CAP_PGSIZES, &c->named);
	if (ret < 0)
		return ret;
	multi = json_object_get(caps, "write_multiple");
	if (multi) {
		if (!json_is_boolean(multi))
			return -EINVAL;
		c->write_multiple = json_is_true(multi);
		c->named |= VFIO_USER_CAP_MULTI;
	}
	c->max_msg_fds = (uint32_t)fds;
	c->max_data_xfer_size = (uint32_t)xfer;
	c->max_dma_maps = (uint32_t)maps;
	return 0;
}

int vfio_user_caps_parse(const char *text, size_t len,
			 struct vfio_user_caps *out)
{
	/* The defaults of the table in "VFIO_USER_VERSION". */
	struct vfio_user_caps c = {
		.max_msg_fds = 1,
		.max_data_xfer_size = VFIO_USER_XFER_DEFAULT,
		.max_dma_maps = 65535,
		.pgsizes = PAGE_SIZE,
	};
	json_t *root, *caps;
	int ret = 0;

	if (len == 0)
		goto done;
	if (text[len - 1] != '\0')
		return -EINVAL;
	root = json_loadb(text, strlen(text), JSON_REJECT_DUPLICATES, NULL);
	if (!root)
		return -EINVAL;
	caps = json_object_get(root, "capabilities");
	if (!json_is_object(root))
		ret = -EINVAL;
	else if (caps)
		ret = parse_object(caps, &c);
	json_decref(root);
	if (ret < 0)
		return ret;
done:
	*out = c;
	return 0;
}

char *vfio_user_caps_text(const struct vfio_user_caps *c)
{
	json_t *root = json_object(), *caps = json_object();
	char *text = NULL;
	int bad = 0;

	if (c->named & VFIO_USER_CAP_FDS)
		bad |= json_object_set_new(caps, "max_msg_fds",
					   json_integer(c->max_msg_fds));
	if (c->named & VFIO_USER_CAP_XFER)
		bad |= json_object_set_new(caps, "max_data_xfer_size",
					   json_integer(c->max_data_xfer_size));
	if (c->named & VFIO_USER_CAP_MAPS)
		bad |= json_object_set_new(caps, "max_dma_maps",
					   json_integer(c->max_dma_maps));
	if (c->named & VFIO_USER_CAP_PGSIZES)
		bad |= json_object_set_new(
			caps, "pgsizes", json_integer((json_int_t)c->pgsizes));
	if (c->named & VFIO_USER_CAP_MULTI)
		bad |= json_object_set_new(caps, "write_multiple",
					   json_boolean(c->write_multiple));
	/* Owns 'caps' from here on, whether it succeeds or not. */
	bad |= json_object_set_new(root, "capabilities", caps);
	if (!bad)
		text = json_dumps(root, JSON_COMPACT);
	json_decref(root);
	return text;
}
