/*
 * The filters of the switch.
 *
 * What the registers shall hold is computed from the VFs' states as a whole,
 * compared with what was written last, and the difference is written.  So
 * there is one way to program a filter, and taking one away needs no code.
 *
 * Tables shared by all VFs (addresses, VLANs) can be full; pf_filters_fit()
 * finds out before anything is granted.
 *
 * Layout as Linux igb has it: VF n's address in the n-th entry from the end,
 * extra addresses from entry 1 on, VLAN 0 in VLVF 0.  Entry 0, the PF's own
 * address, is left invalid: this PF is no station.
 */
#include <errno.h>
#include <string.h>

#include "igb/pf_priv.h"

static void rar_set(struct pf_filters *f, unsigned int i, const uint8_t *mac,
		    unsigned int vf)
{
	f->ral[i] = (uint32_t)mac[0] | (uint32_t)mac[1] << 8 |
		    (uint32_t)mac[2] << 16 | (uint32_t)mac[3] << 24;
	f->rah[i] = (uint32_t)mac[4] | (uint32_t)mac[5] << 8 | IGB_RAH_AV |
		    1u << (IGB_RAH_POOL_SHIFT + vf);
}

static int add_macs(const struct pf *pf, struct pf_filters *f, unsigned int vf,
		    const struct mbx_state *s)
{
	unsigned int last = pf->gen->rar - pf->nvfs, i = 1;

	if (mbx_mac_ok(s->mac))
		rar_set(f, pf->gen->rar - 1 - vf, s->mac, vf);
	for (unsigned int n = 0; n < s->nfilters; n++) {
		while (i < last && f->rah[i] & IGB_RAH_AV)
			i++;
		if (i >= last)
			return -ENOSPC;
		rar_set(f, i, s->filter[n], vf);
	}
	return 0;
}

/*
 * The entry for vid: the one that has it, or the one that had it, so that
 * entries do not wander; else a free one.
 */
static int vlvf_slot(const struct pf *pf, const struct pf_filters *f,
		     unsigned int vid)
{
	int room = -ENOSPC;

	if (vid == 0)
		return 0;
	for (int i = IGB_VLVF_ENTRIES - 1; i > 0; i--)
		if (f->vlvf[i] & IGB_VLVF_EN &&
		    (f->vlvf[i] & IGB_VLVF_VID) == vid)
			return i;
	for (int i = IGB_VLVF_ENTRIES - 1; i > 0; i--) {
		if (f->vlvf[i] & IGB_VLVF_EN)
			continue;
		if (pf->hw.vlvf[i] & IGB_VLVF_EN &&
		    (pf->hw.vlvf[i] & IGB_VLVF_VID) == vid)
			return i;
		/* Prefer one that nobody had, or it would take another's. */
		if (room < 0 || !(pf->hw.vlvf[i] & IGB_VLVF_EN))
			room = i;
	}
	return room;
}

static int add_vlans(const struct pf *pf, struct pf_filters *f, unsigned int vf,
		     const struct mbx_state *s)
{
	for (unsigned int vid = 0; vid < 4096; vid++) {
		int i;

		if (!(s->vlan[vid / 64] >> vid % 64 & 1))
			continue;
		i = vlvf_slot(pf, f, vid);
		if (i < 0)
			return i;
		f->vlvf[i] |=
			vid | IGB_VLVF_EN | 1u << (IGB_VLVF_POOL_SHIFT + vf);
		f->vfta[vid / 32] |= 1u << vid % 32;
	}
	return 0;
}

static void add_rx_mode(const struct pf *pf, struct pf_filters *f,
			unsigned int vf, const struct mbx_state *s)
{
	/* A driver that was never granted a size has the default one. */
	uint32_t v = MIN(s->frame, pf->policy.vf[vf].frame) | IGB_VMOLR_LPE |
		     IGB_VMOLR_AUPE | IGB_VMOLR_BAM | IGB_VMOLR_STRCRC;

	/* Where frames to several pools have one switch, all go with the one. */
	if (pf->vf[vf].keep_tags)
		f->rplolr = 0;
	else if (pf->gen->dvmolr)
		f->dvmolr[vf] = IGB_DVMOLR_STRVLAN;
	else
		v |= IGB_VMOLR_STRVLAN;
	for (unsigned int i = 0; i < s->nhashes; i++) {
		f->mta[s->hash[i] >> 5] |= 1u << (s->hash[i] & 31);
		v |= IGB_VMOLR_ROMPE;
	}
	if (s->promisc & MBX_PROMISC_MULTICAST)
		v |= IGB_VMOLR_MPME;
	if (s->promisc & MBX_PROMISC_UNICAST)
		v |= IGB_VMOLR_ROPE;
	f->vmolr[vf] = v;
}

static int compute(const struct pf *pf, struct pf_filters *f, unsigned int vf,
		   const struct mbx_state *st)
{
	int ret = 0;

	memset(f, 0, sizeof(*f));
	memcpy(f->mta, pf->mta_kept, sizeof(f->mta));
	f->txswc = IGB_TXSWC_LOOPBACK;
	f->rplolr = pf->gen->dvmolr ? 0 : IGB_RPLOLR_STRVLAN;
	/* Untagged frames need no entry, tagged 0 needs the VFTA bit. */
	f->vfta[0] = 1;
	for (unsigned int n = 0; ret == 0 && n < pf->nvfs; n++) {
		const struct mbx_state *s = n == vf ? st : &pf->vf[n].st;

		add_rx_mode(pf, f, n, s);
		ret = add_macs(pf, f, n, s);
		if (ret == 0)
			ret = add_vlans(pf, f, n, s);
		if (pf->policy.vf[n].spoof_check)
			f->txswc |= 1u << (IGB_TXSWC_MAC_AS_SHIFT + n) |
				    1u << (IGB_TXSWC_VLAN_AS_SHIFT + n);
	}
	return ret;
}

int pf_filters_fit(struct pf *pf, unsigned int vf, const struct mbx_state *st)
{
	struct pf_filters f;

	return compute(pf, &f, vf, st);
}

static void update(struct pf *pf, uint32_t reg, uint32_t *hw, uint32_t want,
		   unsigned int times)
{
	if (*hw == want)
		return;
	for (unsigned int i = 0; i < times; i++)
		pf_wr(pf, reg, want);
	*hw = want;
}

static void update_rar(struct pf *pf, unsigned int i,
		       const struct pf_filters *f)
{
	if (pf->hw.ral[i] == f->ral[i] && pf->hw.rah[i] == f->rah[i])
		return;
	/* Invalid while its two halves differ (igb_rar_set_index). */
	pf_wr(pf, IGB_RAH(i), 0);
	pf_wr(pf, IGB_RAL(i), f->ral[i]);
	pf_wr(pf, IGB_RAH(i), f->rah[i]);
	pf->hw.ral[i] = f->ral[i];
	pf->hw.rah[i] = f->rah[i];
}

int pf_filters_write(struct pf *pf)
{
	uint32_t on = 0;
	struct pf_filters f;
	int ret = compute(pf, &f, PF_VFS_MAX, NULL);

	if (ret < 0)
		return ret;
	for (unsigned int i = 0; i < pf->gen->rar; i++)
		update_rar(pf, i, &f);
	for (unsigned int i = 0; i < IGB_VFTA_WORDS; i++)
		update(pf, IGB_VFTA(i), &pf->hw.vfta[i], f.vfta[i],
		       pf->gen->vfta_writes);
	for (unsigned int i = 0; i < IGB_VLVF_ENTRIES; i++)
		update(pf, IGB_VLVF(i), &pf->hw.vlvf[i], f.vlvf[i], 1);
	for (unsigned int i = 0; i < IGB_MTA_WORDS; i++)
		update(pf, IGB_MTA(i), &pf->hw.mta[i], f.mta[i], 1);
	for (unsigned int i = 0; i < pf->nvfs; i++) {
		update(pf, IGB_VMOLR(i), &pf->hw.vmolr[i], f.vmolr[i], 1);
		if (pf->gen->dvmolr)
			update(pf, IGB_DVMOLR(i), &pf->hw.dvmolr[i],
			       f.dvmolr[i], 1);
		on |= (uint32_t)pf->vf[i].st.cts << i;
	}
	update(pf, pf->gen->txswc, &pf->hw.txswc, f.txswc, 1);
	update(pf, IGB_RPLOLR, &pf->hw.rplolr, f.rplolr, 1);
	/* A VF's reset clears its bits behind our back: always written. */
	pf_wr(pf, IGB_VFTE, on | pf_tx_pools(pf));
	pf_wr(pf, IGB_VFRE, on);
	return pf->gone ? -ENODEV : 0;
}

void pf_filters_read(struct pf *pf)
{
	struct pf_filters *h = &pf->hw;

	for (unsigned int i = 0; i < pf->gen->rar; i++) {
		h->ral[i] = pf_rd(pf, IGB_RAL(i));
		h->rah[i] = pf_rd(pf, IGB_RAH(i));
	}
	for (unsigned int i = 0; i < IGB_VFTA_WORDS; i++)
		h->vfta[i] = pf_rd(pf, IGB_VFTA(i));
	for (unsigned int i = 0; i < IGB_VLVF_ENTRIES; i++)
		h->vlvf[i] = pf_rd(pf, IGB_VLVF(i));
	for (unsigned int i = 0; i < IGB_MTA_WORDS; i++)
		h->mta[i] = pf_rd(pf, IGB_MTA(i));
	for (unsigned int i = 0; i < IGB_POOLS; i++) {
		h->vmolr[i] = pf_rd(pf, IGB_VMOLR(i));
		if (pf->gen->dvmolr)
			h->dvmolr[i] = pf_rd(pf, IGB_DVMOLR(i));
	}
	h->txswc = pf_rd(pf, pf->gen->txswc);
	/* The I350 has none. */
	if (!pf->gen->dvmolr)
		h->rplolr = pf_rd(pf, IGB_RPLOLR);
}

static void mac_of_rar(const struct pf_filters *h, unsigned int i, uint8_t *mac)
{
	for (unsigned int b = 0; b < 6; b++)
		mac[b] = (uint8_t)(b < 4 ? h->ral[i] >> 8 * b
					 : h->rah[i] >> 8 * (b - 4));
}

/* What VF n has, as far as registers tell: multicasts are of all VFs. */
static void inherit_vf(struct pf *pf, unsigned int n, uint32_t on)
{
	const struct pf_filters *h = &pf->hw;
	struct mbx_state *s = &pf->vf[n].st;
	unsigned int own = pf->gen->rar - 1 - n;
	uint8_t mac[6];

	/* Off: nobody used it, and what it may still have is not wanted. */
	if (!(on >> n & 1))
		return;
	mbx_state_init(s, NULL);
	s->cts = true;
	mac_of_rar(h, own, mac);
	if (h->rah[own] & IGB_RAH_AV && mbx_mac_ok(mac))
		memcpy(s->mac, mac, 6);
	for (unsigned int i = 1; i < pf->gen->rar - pf->nvfs; i++) {
		struct mbx_req r = { .op = MBX_OP_MAC_ADD };

		if (!(h->rah[i] & IGB_RAH_AV) ||
		    !(h->rah[i] >> (IGB_RAH_POOL_SHIFT + n) & 1))
			continue;
		mac_of_rar(h, i, r.mac);
		if (mbx_mac_ok(r.mac))
			mbx_state_apply(s, &r);
	}
	for (unsigned int i = 0; i < IGB_VLVF_ENTRIES; i++) {
		unsigned int vid = h->vlvf[i] & IGB_VLVF_VID;

		if (h->vlvf[i] & IGB_VLVF_EN &&
		    h->vlvf[i] >> (IGB_VLVF_POOL_SHIFT + n) & 1)
			s->vlan[vid / 64] |= 1ull << vid % 64;
	}
	pf->vf[n].keep_tags = pf->gen->dvmolr
				      ? !(h->dvmolr[n] & IGB_DVMOLR_STRVLAN)
				      : !(h->vmolr[n] & IGB_VMOLR_STRVLAN);
	s->frame = (uint16_t)(h->vmolr[n] & IGB_VMOLR_RLPML);
	if (s->frame < MBX_FRAME_MIN || s->frame > MBX_FRAME_MAX)
		s->frame = MBX_FRAME_DEFAULT;
	if (h->vmolr[n] & IGB_VMOLR_MPME)
		s->promisc |= MBX_PROMISC_MULTICAST;
	if (h->vmolr[n] & IGB_VMOLR_ROPE)
		s->promisc |= MBX_PROMISC_UNICAST;
	pf->vf[n].inherited = true;
}

void pf_filters_inherit(struct pf *pf)
{
	uint32_t on = pf_rd(pf, IGB_VFRE);

	pf_filters_read(pf);
	for (unsigned int n = 0; n < pf->nvfs; n++)
		inherit_vf(pf, n, on);
	memcpy(pf->mta_kept, pf->hw.mta, sizeof(pf->mta_kept));
}
