use jiff::Timestamp;

/// A leaky bucket whose capacity is one second of requests (section 1.3).
#[derive(Debug)]
pub(super) struct LeakyBucket {
    per_second: Option<u32>,
    level: f64,
    at: Timestamp,
}

impl LeakyBucket {
    pub(super) fn new(per_second: Option<u32>, now: Timestamp) -> Self {
        Self {
            per_second,
            level: 0.0,
            at: now,
        }
    }

    pub(super) fn admits(&mut self, now: Timestamp) -> bool {
        let Some(rate) = self.per_second.map(f64::from) else {
            return true;
        };
        let elapsed = now.duration_since(self.at).as_secs_f64().max(0.0);
        self.level = (self.level - elapsed * rate).max(0.0);
        self.at = now;
        let admitted = self.level + 1.0 <= rate;
        if admitted {
            self.level += 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bucket_admits_a_burst_then_the_rate() {
        let start = Timestamp::UNIX_EPOCH;
        let mut bucket = LeakyBucket::new(Some(10), start);
        let mut admitted = |at: Timestamp| (0..20).filter(|_| bucket.admits(at)).count();
        assert_eq!(admitted(start), 10);
        assert_eq!(admitted(start + Duration::from_millis(50)), 0);
        assert_eq!(admitted(start + Duration::from_millis(300)), 3);
        assert_eq!(admitted(start + Duration::from_secs(60)), 10);
    }

    #[test]
    fn bucket_without_rate_admits_everything() {
        let mut bucket = LeakyBucket::new(None, Timestamp::UNIX_EPOCH);
        assert!((0..1_000).all(|_| bucket.admits(Timestamp::UNIX_EPOCH)));
    }
}
