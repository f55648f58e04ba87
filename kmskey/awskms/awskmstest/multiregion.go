// multiregion.go owns multi-Region keys: one id and one material in several regions.

package awskmstest

import (
	"slices"
	"strings"
)

const mrk = "mrk-"

func (k *key) multiRegion() bool { return strings.HasPrefix(k.id, mrk) }

// related is the primary key and its replicas, k among them, in order of region; only k where k is of one region.
func (s *Server) related(k *key) []*key {
	all := []*key{k}
	for _, other := range s.keys {
		if k.multiRegion() && other != k && other.id == k.id && other.account == k.account {
			all = append(all, other)
		}
	}
	slices.SortFunc(all, func(a, b *key) int { return strings.Compare(a.region, b.region) })
	return all
}

// replication is MultiRegionConfiguration of DescribeKey, nil for a key of one region.
func (s *Server) replication(k *key) any {
	if !k.multiRegion() {
		return nil
	}
	type place struct{ Arn, Region string }
	kind, primary, replicas := "PRIMARY", place{}, []place{}
	if k.replica {
		kind = "REPLICA"
	}
	for _, r := range s.related(k) {
		if r.replica {
			replicas = append(replicas, place{r.arn, r.region})
		} else {
			primary = place{r.arn, r.region}
		}
	}
	return map[string]any{"MultiRegionKeyType": kind, "PrimaryKey": primary, "ReplicaKeys": replicas}
}

func replicateKey(s *Server, c caller, body []byte) (any, error) {
	var in struct{ KeyId, ReplicaRegion, Description string }
	if err := decode(body, &in); err != nil {
		return nil, err
	}
	k, err := s.findFor(c, "kms:ReplicateKey", in.KeyId)
	if err == nil {
		err = k.usable()
	}
	switch {
	case err != nil:
		return nil, err
	case !k.multiRegion() || k.replica:
		return nil, &Fault{Code: "UnsupportedOperationException", Message: k.arn + " is not a multi-Region primary key."}
	case !slices.Contains(s.regions, in.ReplicaRegion):
		return nil, invalid("Value '" + in.ReplicaRegion + "' at 'replicaRegion' is not a region of this server")
	}
	for _, r := range s.related(k) {
		if r.region == in.ReplicaRegion {
			return nil, &Fault{Code: "AlreadyExistsException", Message: r.arn + " already exists."}
		}
	}
	r := s.addKey(k.account, in.ReplicaRegion, k.id, in.Description)
	r.replica, r.material = true, k.material
	return map[string]any{"ReplicaKeyMetadata": s.describe(r)}, nil
}

// CreateMultiRegionKey makes a multi-Region primary key in the server's account and first region and gives its ARN.
func (s *Server) CreateMultiRegionKey() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addKey(s.account, s.regions[0], mrk+randomHex(16), "").arn
}

// ReplicateKey makes a replica of a multi-Region primary key in another region and gives the replica's ARN. The replica can be used at once.
func (s *Server) ReplicateKey(key, region string) (string, error) {
	if err := s.do("ReplicateKey", key, map[string]any{"KeyId": key, "ReplicaRegion": region}); err != nil {
		return "", err
	}
	return strings.Replace(key, ":"+strings.SplitN(key, ":", 6)[3]+":", ":"+region+":", 1), nil
}
