package handoff

import (
	"fmt"
	"strings"

	"github.com/hotinit/hotinit/internal/passwd"
	"github.com/hotinit/hotinit/internal/settings"
)

// identityOf looks up --user and --groups in the container's own /etc/passwd
// and /etc/group: only there do a name and a number belong together. It returns
// nil where the app runs as hotinit itself.
func identityOf(cfg *settings.Config) (*passwd.Identity, error) {
	if cfg.User == "" {
		if len(cfg.Groups) > 0 {
			return nil, fmt.Errorf("--groups %s is without effect unless --user is given", strings.Join(cfg.Groups, ","))
		}
		return nil, nil
	}
	id, err := passwd.LookUp(cfg.User, cfg.Groups)
	if err != nil {
		return nil, err
	}
	return &id, nil
}

// credential returns who the app runs as, nil for as hotinit itself.
func (s *supervisor) credential() *passwd.Credential {
	if s.identity == nil {
		return nil
	}
	return &s.identity.Credential
}
