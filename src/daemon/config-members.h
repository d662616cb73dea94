/* SPDX-License-Identifier: Apache-2.0 */
/* For config.h: how the rows of config.def become members of structs. */
#ifndef FM_CONFIG_MEMBERS_H
#define FM_CONFIG_MEMBERS_H

/* The C type of a setting's member. */
#define FM_CTYPE_NAMES		struct fm_names
#define FM_CTYPE_LIST		struct fm_names
#define FM_CTYPE_FIELDS		struct fm_field_list
#define FM_CTYPE_BOOL		bool
#define FM_CTYPE_COUNT		uint64_t
#define FM_CTYPE_SIZE		uint64_t
#define FM_CTYPE_NUMBER		uint64_t
#define FM_CTYPE_DURATION	uint64_t
#define FM_CTYPE_ADDRESS	struct fm_address
#define FM_CTYPE_PATH		char *
#define FM_CTYPE_FILE		char *
#define FM_CTYPE_HOST		char *
#define FM_CTYPE_RULES		struct fm_filter_rules *
#define FM_CTYPE_ENUM_FILTER	enum fm_filter_action
#define FM_CTYPE_ENUM_OBSERVE	enum fm_observe
#define FM_CTYPE_ENUM_ATTACH	enum fm_attach_mode
#define FM_CTYPE_ENUM_KEYS	unsigned int
#define FM_CTYPE_ENUM_TUNNEL	enum fm_tunnel_key
#define FM_CTYPE_ENUM_AGGREGATE enum fm_aggregation
#define FM_CTYPE_ENUM_MEASURE	enum fm_measure
#define FM_CTYPE_ENUM_TRANSPORT enum fm_transport_kind
#define FM_CTYPE_ENUM_PROTOCOL	enum fm_protocol
#define FM_CTYPE_ENUM_PROFILE	enum fm_profile
#define FM_CTYPE_ENUM_POLICY	enum fm_policy
#define FM_CTYPE_ENUM_V9_TIME	enum fm_v9_time
#define FM_CTYPE_ENUM_SPOOL	enum fm_spool_mode
#define FM_CTYPE_ENUM_LOG_LEVEL enum fm_log_level

/* Which struct a section's rows are members of: one of three words. */
#define FM_SECTION_capture(main, collector, group)    main
#define FM_SECTION_flows(main, collector, group)      main
#define FM_SECTION_filter(main, collector, group)     main
#define FM_SECTION_metrics(main, collector, group)    main
#define FM_SECTION_names(main, collector, group)      main
#define FM_SECTION_collector(main, collector, group)  collector
#define FM_SECTION_group(main, collector, group)      group
#define FM_SECTION_spool(main, collector, group)      main
#define FM_SECTION_ipfix_file(main, collector, group) main
#define FM_SECTION_audit(main, collector, group)      main
#define FM_SECTION_bpf(main, collector, group)	      main
#define FM_SECTION_json(main, collector, group)	      main
#define FM_SECTION_text(main, collector, group)	      main
#define FM_SECTION_log(main, collector, group)	      main
#define FM_SECTION_control(main, collector, group)    main

#endif
