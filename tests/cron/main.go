// Prints when Kubernetes would start runs. It uses the library and version that
// kube-controller-manager parses schedules with. Each line is a time zone, a schedule, a time, and
// the next three starts after it, separated by bars. The starts are "never" if there is none, and
// "rejected" if the schedule is not valid.
//
// Generate table.txt with: go run . >table.txt
package main

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata"

	"github.com/robfig/cron/v3"
)

// Times before a clock moves forward, before it moves back, and on days without a change.
var zones = []struct {
	name   string
	starts []string
}{
	{"UTC", []string{"2026-01-01T00:00:00Z", "2026-02-27T23:59:59Z", "2028-02-28T12:00:30Z"}},
	{"Europe/Berlin", []string{"2026-03-28T22:30:00Z", "2026-10-24T22:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}},
	{"America/New_York", []string{"2026-03-08T05:30:00Z", "2026-11-01T04:30:00Z", "2026-11-01T05:30:00Z"}},
	// The clock moves by half an hour.
	{"Australia/Lord_Howe", []string{"2026-10-03T13:00:00Z", "2026-04-04T13:00:00Z"}},
	// Midnight does not exist, or exists twice.
	{"America/Havana", []string{"2026-03-08T03:30:00Z", "2026-11-01T03:30:00Z"}},
	{"Asia/Beirut", []string{"2026-03-28T20:30:00Z", "2026-10-24T20:30:00Z"}},
	{"Africa/Cairo", []string{"2026-04-23T20:30:00Z", "2026-10-29T20:30:00Z"}},
	{"America/Santiago", []string{"2026-09-06T02:30:00Z", "2026-04-05T02:30:00Z"}},
	{"America/Sao_Paulo", []string{"2018-11-04T01:30:00Z", "2019-02-17T00:30:00Z"}},
	// Offsets with a fraction of an hour, or far from UTC.
	{"Asia/Kathmandu", []string{"2026-05-31T18:00:00Z"}},
	{"America/St_Johns", []string{"2026-03-08T04:00:00Z", "2026-11-01T03:30:00Z"}},
	{"Pacific/Auckland", []string{"2026-09-26T12:30:00Z", "2026-04-04T12:30:00Z"}},
	// The offset changes from zero to one hour.
	{"Europe/London", []string{"2026-03-28T23:30:00Z", "2026-10-24T23:30:00Z"}},
	{"Africa/Casablanca", []string{"2026-02-14T23:30:00Z", "2026-03-22T00:30:00Z"}},
}

var schedules = []string{
	"* * * * *",
	"0 * * * *",
	"*/15 * * * *",
	"30 * * * *",
	"7,37 * * * *",
	"0 0 * * *",
	"30 0 * * *",
	"0 1 * * *",
	"30 1 * * *",
	"0 2 * * *",
	"15 2 * * *",
	"30 2 * * *",
	"0 3 * * *",
	"45 23 * * *",
	"0 */2 * * *",
	"0 1-23/2 * * *",
	"0 8-18/5 * * MON-FRI",
	"0 0 1 * *",
	"0 0 31 * *",
	"0 0 29 2 *",
	"0 0 13 * 5",
	"0 0 */10 * 1",
	"0 0 */1 * 1",
	"0 0 ? * SUN",
	"0 12 1,15 jan,JUL ?",
	"0 0 * * 6,0",
	"5/20 3 * * *",
	"0 0 1 1 *",
	"30 2 29 3 *",
	"0 0 30 3 *",
	"59 23 31 12 *",
	"@hourly",
	"@daily",
	"@midnight",
	"@weekly",
	"@monthly",
	"@yearly",
	"@annually",
}

// Schedules that are not valid, or that never start.
var unusual = []string{
	"0 0 31 2 *",
	"0 0 30 2 1-5",
	"0 0 31 4,6,9,11 *",
	"5-3 * * * *",
	"0 5-3 * * *",
	"60 * * * *",
	"* 24 * * *",
	"* * 0 * *",
	"* * 32 * *",
	"* * * 13 *",
	"* * * * 7",
	"*/0 * * * *",
	"* * * *",
	"* * * * * *",
	"@never",
	"@Hourly",
	"1- * * * *",
	"-1 * * * *",
	"1-2-3 * * * *",
	"1/2/3 * * * *",
	"a * * * *",
	"0 0 L * *",
	"0 0 1W * *",
	"0 0 * * 1#2",
	"0 0 * * MON-SUN",
}

func main() {
	for _, zone := range zones {
		for _, schedule := range schedules {
			for _, start := range zone.starts {
				show(zone.name, schedule, start)
			}
		}
	}
	for _, schedule := range unusual {
		show("UTC", schedule, "2026-01-01T00:00:00Z")
	}
}

func show(zone, schedule, start string) {
	after, err := time.Parse(time.RFC3339, start)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s|%s|%s|%s\n", zone, schedule, start, starts(zone, schedule, after))
}

func starts(zone, schedule string, after time.Time) string {
	parsed, err := cron.ParseStandard("TZ=" + zone + " " + schedule)
	if err != nil {
		return "rejected"
	}
	var times []string
	for range 3 {
		after = parsed.Next(after)
		if after.IsZero() {
			times = append(times, "never")
			break
		}
		times = append(times, after.UTC().Format(time.RFC3339))
	}
	return strings.Join(times, " ")
}
