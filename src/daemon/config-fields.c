/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of settings of type FIELDS, and which fields the records of each sink have: see
 * config-fields.h. Part of config.h.
 */
#include "daemon/config-fields.h"

#include <errno.h>
#include <string.h>

#include "daemon/config-rows.h"
#include "daemon/prefix-map.h"
#include "ipfix/layout.h"

#define SEPARATORS " \t,"

/* --- values --- */

/* Adds words to a list up to one that is wrong: its beginning and length. */
static int add_words(struct fm_field_list *list, const char *text, const char **ret_word,
		     size_t *ret_length)
{
	int r = 0;

	for (text += strspn(text, SEPARATORS); *text && r == 0; text += strspn(text, SEPARATORS)) {
		*ret_word = text;
		*ret_length = strcspn(text, SEPARATORS);
		r = fm_field_list_add(list, text, *ret_length);
		text += *ret_length;
	}
	return r;
}

/* Added to what the list has. */
static int parse_fields(const struct fm_setting *row, const char *text, void *member)
{
	struct fm_field_list *list = member, grown = *list;
	const char *word;
	size_t length;
	int r = add_words(&grown, text, &word, &length);

	if (r == 0)
		*list = grown;
	return r;
}

/* In the order of the table, in as many lines as the file's reader wants for it. */
static void print_fields(const struct fm_setting *row, const void *member, struct fm_buf *ret)
{
	const struct fm_field_list *list = member;
	size_t begin = ret->size;

	for (size_t i = 0; i < fm_n_fields; i++) {
		bool adds = fm_field_list_adds(list, i);

		if (!adds && !fm_field_list_leaves_out(list, i))
			continue;
		if (ret->size > begin &&
		    ret->size + strlen(fm_fields[i].ie_name) > begin + FM_SETTING_COLUMNS) {
			fm_buf_printf(ret, "\n%s = ", row->info.key);
			begin = ret->size;
		}
		fm_buf_printf(ret, "%s%c%s", ret->size > begin ? " " : "", adds ? '+' : '-',
			      fm_fields[i].ie_name);
	}
}

static const char *reason_to_stay(const char *name, size_t length)
{
	const struct fm_field *field = &fm_fields[fm_field_list_nearest(name, length)];

	return field->profile & FM_P_SUM ? "every record says what was counted, and when"
					 : "flows would not be told apart";
}

/* Of the first word that is wrong. */
void fm_config_explain_fields(const void *owner, const struct fm_setting *row, const char *text,
			      struct fm_buf *ret)
{
	const void *member = (const char *)owner + row->offset;
	struct fm_field_list list = *(const struct fm_field_list *)member;
	const char *word = "";
	size_t length = 0;
	int r = add_words(&list, text, &word, &length), n = (int)length;

	switch (r) {
	case -ENOENT:
		fm_buf_printf(ret, "there is no field '%.*s': did you mean '%s'?", n - 1, word + 1,
			      fm_fields[fm_field_list_nearest(word + 1, length - 1)].ie_name);
		break;
	case -EEXIST:
		fm_buf_printf(ret, "'%.*s' is there twice", n - 1, word + 1);
		break;
	case -EPERM:
		fm_buf_printf(ret, "'%.*s' cannot be left out: %s", n - 1, word + 1,
			      reason_to_stay(word + 1, length - 1));
		break;
	default:
		fm_buf_printf(ret, "expected + or - and a field, such as +rttMean, not '%.*s'", n,
			      word);
		break;
	}
}

const struct fm_setting_type fm_setting_type_FIELDS = {
	.parse = parse_fields,
	.print = print_fields,
};

/* --- what they mean --- */

/* FM_P_* */
static unsigned int profile_of(enum fm_profile profile)
{
	static const unsigned int profiles[] = {
		[FM_PROFILE_STANDARD] = FM_P_STANDARD,
		[FM_PROFILE_NTOP] = FM_P_NTOP,
		[FM_PROFILE_FULL] = FM_P_FULL,
	};

	return profiles[profile];
}

/* Records of flows that are added up say by what. */
static void add_coarse(const struct fm_config *config, struct fm_session_options *records)
{
	const struct fm_prefix_map *map = config->prefix_map;
	struct fm_field_list *list = &records->fields;
	unsigned int added = 0;

	if (fm_config_coarse(config))
		added = FM_P_PREFIXES | (map && map->has_numbers ? FM_P_NUMBERS : 0);
	for (size_t i = 0; i < fm_n_fields; i++)
		if ((fm_fields[i].profile & added) && !fm_field_list_leaves_out(list, i))
			list->added[i / 64] |= 1ULL << i % 64;
}

void fm_config_collector_records(const struct fm_config *config,
				 const struct fm_collector_config *collector,
				 struct fm_session_options *ret)
{
	*ret = (struct fm_session_options){
		.protocol =
			collector->protocol == FM_PROTOCOL_V9 ? FM_SESSION_V9 : FM_SESSION_IPFIX,
		.profile = profile_of(collector->profile),
		.fields = collector->fields,
		.biflow = config->biflow,
		.domain = (uint32_t)collector->domain,
		.enterprise_number = (uint32_t)collector->enterprise_number,
		.message_size = collector->message_size,
		.v9_sysuptime = collector->v9_time == FM_V9_TIME_SYSUPTIME,
	};
	add_coarse(config, ret);
}

void fm_config_file_records(const struct fm_config *config, struct fm_session_options *ret)
{
	*ret = (struct fm_session_options){
		.protocol = FM_SESSION_IPFIX,
		.profile = profile_of(config->file_profile),
		.fields = config->file_fields,
		.biflow = config->biflow,
		.domain = (uint32_t)config->file_domain,
		.enterprise_number = (uint32_t)config->file_enterprise_number,
	};
	add_coarse(config, ret);
}

void fm_config_json_records(const struct fm_config *config, struct fm_session_options *ret)
{
	*ret = (struct fm_session_options){
		.protocol = FM_SESSION_IPFIX,
		.profile = profile_of(config->json_profile),
		.fields = config->json_fields,
		.biflow = config->biflow,
	};
	add_coarse(config, ret);
}

static bool takes_measures(const struct fm_session_options *records)
{
	for (size_t i = 0; i < fm_n_fields; i++) {
		const struct fm_field *field = &fm_fields[i];

		if (!(field->families & FM_F_ALL & ~FM_F_MEASURED) &&
		    ((field->families & FM_F_ONLY_BIFLOW) == 0 || records->biflow) &&
		    (field->v9 || records->protocol != FM_SESSION_V9) &&
		    fm_layout_has_row(records, i))
			return true;
	}
	return false;
}

uint8_t fm_config_coarse(const struct fm_config *config)
{
	switch (config->aggregate) {
	case FM_AGGREGATION_PORTS:
		return FM_COARSE | FM_COARSE_PORTS;
	case FM_AGGREGATION_HOSTS:
		return FM_COARSE | FM_COARSE_PORTS | FM_COARSE_PROTOCOL;
	default:
		return config->prefix4 < 32 || config->prefix6 < 128 ? FM_COARSE | FM_COARSE_LENGTHS
								     : 0;
	}
}

bool fm_config_takes_measures(const struct fm_config *config)
{
	struct fm_session_options records;

	for (size_t i = 0; i < config->n_collectors; i++) {
		fm_config_collector_records(config, &config->collectors[i], &records);
		if (takes_measures(&records))
			return true;
	}
	fm_config_file_records(config, &records);
	if (*config->file_directory && takes_measures(&records))
		return true;
	fm_config_json_records(config, &records);
	return *config->json_file && takes_measures(&records);
}

/* By which rows flows are told apart, and since which setting. */
static const char *key_of(const struct fm_config *config, uint32_t profile)
{
	const struct {
		uint32_t bit;
		bool used;
		const char *setting;
	} keys[] = {
		{FM_P_KEY_VLAN, config->key_extra & FM_KEY_VLAN, "[flows] key = vlan"},
		{FM_P_KEY_TOS, config->key_extra & FM_KEY_TOS, "[flows] key = tos"},
		{FM_P_KEY_INTERFACE, config->key_extra & FM_KEY_INTERFACE,
		 "[flows] key = interface"},
		{FM_P_KEY_INTERFACE | FM_P_KEY_HOOK, config->observe == FM_OBSERVE_EVERY,
		 "[capture] observe = every"},
	};

	for (size_t i = 0; i < FM_ARRAY_SIZE(keys); i++)
		if (keys[i].used && (keys[i].bit & profile))
			return keys[i].setting;
	return NULL;
}

void fm_config_check_records(const struct fm_config *config,
			     const struct fm_session_options *records, struct fm_buf *ret)
{
	size_t size;

	for (size_t i = 0; i < fm_n_fields; i++) {
		const struct fm_field *field = &fm_fields[i];
		const char *key = key_of(config, field->profile);

		if (fm_field_list_leaves_out(&records->fields, i) && key) {
			fm_buf_printf(ret, "fields = -%s: with %s flows would not be told apart",
				      field->ie_name, key);
			return;
		}
		if (fm_field_list_adds(&records->fields, i) && !field->v9 &&
		    records->protocol == FM_SESSION_V9) {
			fm_buf_printf(
				ret,
				"fields = +%s: NetFlow v9 has no number for it: expected protocol = ipfix",
				field->ie_name);
			return;
		}
	}
	size = records->message_size ? fm_session_message_min(records) : 0;
	if (size > records->message_size)
		fm_buf_printf(
			ret,
			"message_size = %zu holds no record of these fields: expected %zu or more",
			records->message_size, size);
}
