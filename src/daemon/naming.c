/* SPDX-License-Identifier: Apache-2.0 */
/* Applications and VRFs: see naming.h. */
#include "daemon/naming.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/macro.h"
#include "daemon/services.h"

/* Masters above each other: a port, its bridge or bond, the VRF. */
#define MASTERS_MAX 8

/* What comes in there, with that tag, belongs to the VRF. */
struct place {
	uint32_t ifindex;
	uint32_t vlan;
	uint32_t vrf;
};

struct vrfs {
	struct fm_vrf_record *v;
	size_t n;
	struct place *places; /* sorted */
	size_t n_places;
};

struct fm_naming {
	struct fm_services *services; /* NULL: none */
	struct vrfs vrfs;
};

int fm_naming_new(struct fm_naming **ret)
{
	struct fm_naming *naming = calloc(1, sizeof(*naming));

	if (!naming)
		return -ENOMEM;
	*ret = naming;
	return 0;
}

static void vrfs_done(struct vrfs *vrfs)
{
	free(vrfs->v);
	free(vrfs->places);
	*vrfs = (struct vrfs){};
}

struct fm_naming *fm_naming_free(struct fm_naming *naming)
{
	if (!naming)
		return NULL;
	fm_services_free(naming->services);
	vrfs_done(&naming->vrfs);
	free(naming);
	return NULL;
}

int fm_naming_read(struct fm_naming *naming, const char *path)
{
	struct fm_services *services = NULL;
	int r = *path ? fm_services_load(path, &services) : 0;

	if (r < 0)
		return r;
	fm_services_free(naming->services);
	naming->services = services;
	return 0;
}

/* --- VRFs --- */

/* The devices of all namespaces, sorted. */
struct devices {
	const struct fm_device *v;
	size_t n;
};

static const struct fm_device *find(const struct devices *devices, unsigned int ns,
				    uint32_t ifindex)
{
	size_t low = 0, high = devices->n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct fm_device *device = &devices->v[middle];

		if (device->ns < ns || (device->ns == ns && device->ifindex < ifindex))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == devices->n || devices->v[low].ns != ns || devices->v[low].ifindex != ifindex)
		return NULL;
	return &devices->v[low];
}

static bool is_vrf(const struct fm_device *device)
{
	return !strcmp(device->kind, "vrf");
}

static uint32_t id_of(const struct fm_device *vrf)
{
	return vrf->ns ? FM_INTERFACES_BASE(vrf->ns) | (vrf->table & 0xffffff) : vrf->table;
}

/* Who is above a device by master, and is what is looked for (NULL: a VRF). */
static const struct fm_device *above(const struct devices *devices, const struct fm_device *device,
				     const struct fm_device *wanted)
{
	for (unsigned int i = 0; device && i < MASTERS_MAX; i++) {
		if (wanted ? device == wanted : is_vrf(device))
			return device;
		device = device->master ? find(devices, device->ns, device->master) : NULL;
	}
	return NULL;
}

static int add_place(struct vrfs *vrfs, const struct fm_device *device, uint16_t vlan, uint32_t vrf)
{
	struct place *grown = reallocarray(vrfs->places, vrfs->n_places + 1, sizeof(*vrfs->places));

	if (!grown)
		return -ENOMEM;
	vrfs->places = grown;
	grown[vrfs->n_places++] = (struct place){
		.ifindex = FM_INTERFACES_BASE(device->ns) + device->ifindex,
		.vlan = vlan,
		.vrf = vrf,
	};
	return 0;
}

/* The device that a VLAN device lies on, and the ports of that. */
static int add_carriers(struct vrfs *vrfs, const struct devices *devices,
			const struct fm_device *vlan, uint32_t vrf)
{
	const struct fm_device *base = find(devices, vlan->ns, vlan->link);
	int r = 0;

	if (!base || vlan->link_ns != FM_LINK_SAME || !vlan->vlan)
		return 0;
	r = add_place(vrfs, base, vlan->vlan, vrf);
	for (size_t i = 0; r == 0 && i < devices->n; i++) {
		const struct fm_device *port = &devices->v[i];

		if (port->ns == base->ns && port->master && port != base &&
		    above(devices, port, base))
			r = add_place(vrfs, port, vlan->vlan, vrf);
	}
	return r;
}

static int add_vrf(struct vrfs *vrfs, const struct fm_device *device)
{
	struct fm_vrf_record *grown = reallocarray(vrfs->v, vrfs->n + 1, sizeof(*grown));

	if (!grown)
		return -ENOMEM;
	vrfs->v = grown;
	grown[vrfs->n] = (struct fm_vrf_record){.id = id_of(device)};
	memcpy(grown[vrfs->n].name, device->name, sizeof(device->name));
	vrfs->n++;
	return 0;
}

static int by_place(const void *left, const void *right)
{
	const struct place *a = left, *b = right;

	if (a->ifindex != b->ifindex)
		return a->ifindex < b->ifindex ? -1 : 1;
	return a->vlan == b->vlan ? 0 : a->vlan < b->vlan ? -1 : 1;
}

static int collect(struct vrfs *vrfs, const struct devices *devices)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < devices->n; i++) {
		const struct fm_device *device = &devices->v[i];
		const struct fm_device *vrf = above(devices, device, NULL);

		if (!vrf)
			continue;
		if (device == vrf)
			r = add_vrf(vrfs, device);
		r = r ?: add_place(vrfs, device, 0, id_of(vrf));
		if (r == 0 && !strcmp(device->kind, "vlan"))
			r = add_carriers(vrfs, devices, device, id_of(vrf));
	}
	if (r == 0 && vrfs->n_places)
		qsort(vrfs->places, vrfs->n_places, sizeof(*vrfs->places), by_place);
	return r;
}

int fm_naming_devices(struct fm_naming *naming, const struct fm_device *devices, size_t n)
{
	const struct devices all = {devices, n};
	struct vrfs vrfs = {};
	int r = collect(&vrfs, &all);

	if (r < 0) {
		vrfs_done(&vrfs);
		return r;
	}
	vrfs_done(&naming->vrfs);
	naming->vrfs = vrfs;
	return 0;
}

struct gathering {
	struct fm_device *v;
	size_t n, capacity;
	bool has_vrf;
	int error;
};

static void gather(void *argument, const struct fm_device *device, const struct fm_plan *plan)
{
	struct gathering *all = argument;

	all->has_vrf |= is_vrf(device);
	if (all->n == all->capacity) {
		size_t capacity = FM_MAX(2 * all->capacity, (size_t)16);
		struct fm_device *grown = reallocarray(all->v, capacity, sizeof(*grown));

		if (!grown) {
			all->error = -ENOMEM;
			return;
		}
		all->v = grown;
		all->capacity = capacity;
	}
	all->v[all->n++] = *device;
}

int fm_naming_follow(struct fm_naming *naming, struct fm_interfaces *interfaces)
{
	struct gathering all = {};
	int r;

	fm_interfaces_for_each(interfaces, gather, &all);
	r = all.error ?: fm_naming_devices(naming, all.v, all.has_vrf ? all.n : 0);
	free(all.v);
	return r;
}

/* --- what is asked --- */

uint32_t fm_naming_vrf(const struct fm_naming *naming, uint32_t ifindex, uint16_t vlan)
{
	const struct place wanted = {.ifindex = ifindex, .vlan = vlan}, *found = NULL;

	if (naming && naming->vrfs.n_places)
		found = bsearch(&wanted, naming->vrfs.places, naming->vrfs.n_places, sizeof(wanted),
				by_place);
	return found ? found->vrf : 0;
}

void fm_naming_set(const struct fm_naming *naming, struct fm_record *record)
{
	bool out = record->direction == FM_HOOK_EGRESS;

	record->application = fm_services_application(naming ? naming->services : NULL, record);
	if (!naming || !naming->vrfs.n_places)
		return;
	/* The tag is that of the hook which counted. */
	record->ingress_vrf = fm_naming_vrf(naming, record->ingress_if, out ? 0 : record->vlan);
	record->egress_vrf = fm_naming_vrf(naming, record->egress_if, out ? record->vlan : 0);
}

size_t fm_naming_vrfs(const struct fm_naming *naming, const struct fm_vrf_record **ret)
{
	*ret = naming ? naming->vrfs.v : NULL;
	return naming ? naming->vrfs.n : 0;
}

size_t fm_naming_applications(const struct fm_naming *naming,
			      const struct fm_application_record **ret)
{
	const struct fm_services *services = naming ? naming->services : NULL;

	*ret = services ? services->v : NULL;
	return services ? services->n : 0;
}
