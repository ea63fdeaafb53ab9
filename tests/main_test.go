package tests

import (
	"testing"

	"github.com/hotinit/hotinit/internal/testkit/box"
)

func TestMain(m *testing.M) { box.Main(m) }
