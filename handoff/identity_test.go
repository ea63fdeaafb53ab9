package handoff

import (
	"strings"
	"testing"

	"github.com/hotinit/hotinit/internal/settings"
)

func TestWithoutUserTheAppRunsAsHotinit(t *testing.T) {
	id, err := identityOf(&settings.Config{}, nil)
	if err != nil || id != nil {
		t.Errorf("the identity is %+v, %v", id, err)
	}
}

func TestGroupsWithoutUserAreAnError(t *testing.T) {
	_, err := identityOf(&settings.Config{Groups: []string{"tty"}}, nil)
	if err == nil || !strings.Contains(err.Error(), "--groups tty is without effect unless --user is given") {
		t.Errorf("the error is %v", err)
	}
}
