// Wrong answers: signatures and attributes.

#include "faulty.h"

#include <string.h>

enum { cka_class = 0x0, cka_label = 0x3, cka_key_type = 0x100, cka_ec_params = 0x180, cka_ec_point = 0x181, cko_private_key = 3 };

static ck_ulong get(ck_ulong session, ck_ulong object, struct attribute *a, ck_ulong count) {
	return ((ck_ulong (*)(ck_ulong, ck_ulong, struct attribute *, ck_ulong))real[c_get_attribute_value])(session, object, a, count);
}

struct about { unsigned char label[256], kind[8], curve[64]; ck_ulong label_len, curve_len; };

static void look(ck_ulong session, ck_ulong key, struct about *b) {
	memset(b, 0, sizeof *b);
	struct attribute label = { cka_label, b->label, sizeof b->label }, kind = { cka_key_type, b->kind, sizeof b->kind },
		curve = { cka_ec_params, b->curve, sizeof b->curve };
	b->label_len = get(session, key, &label, 1) == ckr_ok ? label.len : 0;
	get(session, key, &kind, 1);
	b->curve_len = get(session, key, &curve, 1) == ckr_ok ? curve.len : 0;
}

// Keys that were signed with, by the handles under which the caller knows them: a stale handle tells nothing of itself.
static struct { ck_ulong handle; struct about about; } remembered[256];
static unsigned remember_next;
static pthread_mutex_t memory = PTHREAD_MUTEX_INITIALIZER;

static int recall(ck_ulong handle, struct about *b) {
	for (unsigned i = 0; i < 256; i++) {
		if (handle != 0 && remembered[i].handle == handle) {
			*b = remembered[i].about;
			return 1;
		}
	}
	return 0;
}

// remember_key notes what a handle of the caller's means.
void remember_key(ck_ulong session, ck_ulong key, ck_ulong handle) {
	struct about b;
	pthread_mutex_lock(&memory);
	if (!recall(handle, &b)) {
		look(session, key, &b);
		remembered[remember_next % 256].handle = handle;
		remembered[remember_next++ % 256].about = b;
	}
	pthread_mutex_unlock(&memory);
}

// other_key finds another private key of the same kind in the token, or gives the key itself back. The key is given by its handle
// in the real module, or, if that is 0, by the one under which the caller knew it. The session has no operation.
ck_ulong other_key(ck_ulong session, ck_ulong key, ck_ulong handle) {
	ck_ulong class = cko_private_key, found[64], count = 0, other = key;
	struct attribute want = { cka_class, (unsigned char *)&class, sizeof class };
	if (((ck_ulong (*)(ck_ulong, struct attribute *, ck_ulong))real[c_find_objects_init])(session, &want, 1) != ckr_ok) {
		return key;
	}
	((ck_ulong (*)(ck_ulong, ck_ulong *, ck_ulong, ck_ulong *))real[c_find_objects])(session, found, 64, &count);
	((ck_ulong (*)(ck_ulong))real[c_find_objects_final])(session);
	struct about mine, theirs;
	memset(&mine, 0, sizeof mine);
	if (key != 0) {
		look(session, key, &mine);
	} else {
		pthread_mutex_lock(&memory);
		recall(handle, &mine);
		pthread_mutex_unlock(&memory);
	}
	for (ck_ulong i = 0; i < count; i++) {
		look(session, found[i], &theirs);
		int same_name = theirs.label_len == mine.label_len && memcmp(theirs.label, mine.label, mine.label_len) == 0;
		int same_kind = memcmp(theirs.kind, mine.kind, sizeof mine.kind) == 0 && theirs.curve_len == mine.curve_len &&
			memcmp(theirs.curve, mine.curve, mine.curve_len) == 0;
		if (found[i] != key && !same_name && (same_kind || mine.label_len == 0)) {
			other = found[i];
			break;
		}
	}
	return other;
}

// spoil turns a signature into what the rule says.
void spoil(const struct rule *r, unsigned char *signature, ck_ulong *length, ck_ulong room) {
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static unsigned char last[1024];
	static ck_ulong last_length;
	switch (r->code) {
	case sign_corrupt:
		signature[*length / 2] ^= 0x10;
		break;
	case sign_short:
		*length -= *length > 0;
		break;
	case sign_empty:
		*length = 0;
		break;
	case sign_zero:
		memset(signature, 0, *length);
		break;
	case sign_long:
		if (*length < room) {
			signature[*length] = 0x5a;
		}
		*length += 1; // also if there is no room: a device that lies
		break;
	case sign_again: // the one before, which is right for what was signed then
		pthread_mutex_lock(&lock);
		if (last_length == *length) {
			unsigned char now[sizeof last];
			memcpy(now, signature, *length);
			memcpy(signature, last, *length);
			memcpy(last, now, *length);
		} else if (*length <= sizeof last) {
			memcpy(last, signature, *length);
			last_length = *length;
			signature[*length / 2] ^= 0x10;
		}
		pthread_mutex_unlock(&lock);
		break;
	}
}

// answer puts a value where the caller wants it.
static ck_ulong answer(struct attribute *a, ck_ulong space, const unsigned char *value, ck_ulong length) {
	if (a->value == NULL) {
		a->len = length;
		return ckr_ok;
	}
	if (space < length) {
		a->len = (ck_ulong)-1;
		return ckr_buffer_too_small;
	}
	memcpy(a->value, value, length);
	a->len = length;
	return ckr_ok;
}

// content finds the bytes of a point, whatever it is wrapped in. Every point used is shorter than 256 bytes.
static const unsigned char *content(const unsigned char *point, ck_ulong *length) {
	ck_ulong head = *length > 2 && point[1] == 0x81 ? 3 : 2;
	if (*length > head && (point[0] == 0x04 || point[0] == 0x03) && point[head - 1] == *length - head) {
		head += point[0] == 0x03;
		*length -= head;
		return point + head;
	}
	return point;
}

static ck_ulong wrapped(unsigned char tag, const unsigned char *point, ck_ulong length, unsigned char *out) {
	ck_ulong n = 0, inner = length + (tag == 0x03);
	out[n++] = tag;
	if (inner > 127) {
		out[n++] = 0x81;
	}
	out[n++] = (unsigned char)inner;
	if (tag == 0x03) {
		out[n++] = 0;
	}
	memcpy(out + n, point, length);
	return n + length;
}

static ck_ulong point_as(uint64_t how, struct attribute *a, ck_ulong space, const unsigned char *value, ck_ulong length) {
	unsigned char out[512];
	const unsigned char *point = content(value, &length);
	if (length > 250 || how == point_raw) {
		return answer(a, space, point, length);
	}
	return answer(a, space, out, wrapped(how == point_bit ? 0x03 : 0x04, point, length, out));
}

// attribute gives one attribute, or a lie about it.
static ck_ulong attribute(ck_ulong session, ck_ulong object, struct attribute *a) {
	struct rule r;
	unsigned char value[1024];
	struct attribute truth = { a->type, value, sizeof value };
	if (rule_for(c_get_attribute_value, act_unknown, a->type, &r)) {
		a->len = (ck_ulong)-1;
		return ckr_attribute_type_invalid;
	}
	if (rule_for(c_get_attribute_value, act_value, a->type, &r)) {
		return answer(a, a->len, r.data, r.length);
	}
	if (a->type == cka_ec_point && rule_for(c_get_attribute_value, act_point, cka_ec_point, &r)) {
		ck_ulong rv = get(session, object, &truth, 1);
		return rv == ckr_ok ? point_as(r.code, a, a->len, value, truth.len) : rv;
	}
	ck_ulong rv = get(session, object, a, 1);
	if (rv == ckr_ok && a->value != NULL && rule_for(c_get_attribute_value, act_flip, a->type, &r)) {
		a->value[0] ^= a->len > 0;
	}
	return rv;
}

// attributes is C_GetAttributeValue, with the lies that are wanted.
ck_ulong attributes(ck_ulong session, ck_ulong object, struct attribute *a, ck_ulong count) {
	if (atomic_load(&board->first) == atomic_load(&board->end)) {
		return get(session, object, a, count);
	}
	ck_ulong rv = ckr_ok;
	for (ck_ulong i = 0; i < count; i++) {
		ck_ulong one = attribute(session, object, &a[i]);
		rv = one != ckr_ok ? one : rv;
	}
	return rv;
}
