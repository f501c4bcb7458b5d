//! The partitions of AWS: which regions belong to one, and how its host names end.
//!
//! The names are those of the SDKs' `partitions.json`.

/// A partition.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// As in an ARN, `arn:ID:…`.
    pub(crate) id: &'static str,
    /// How the names of its regions begin.
    region_prefix: &'static str,
    /// The region to use where none is known.
    pub(crate) default_region: &'static str,
    pub(crate) dns_suffix: &'static str,
    pub(crate) dual_stack_dns_suffix: &'static str,
    /// What follows the region in the name of the sign-in service.
    pub(crate) sign_in_domain: &'static str,
}

/// The commercial partition is last: any other region's name belongs to it.
const PARTITIONS: [Partition; 8] = [
    Partition {
        id: "aws-cn",
        region_prefix: "cn-",
        default_region: "cn-north-1",
        dns_suffix: "amazonaws.com.cn",
        dual_stack_dns_suffix: "api.amazonwebservices.com.cn",
        sign_in_domain: "signin.amazonaws.cn",
    },
    Partition {
        id: "aws-us-gov",
        region_prefix: "us-gov-",
        default_region: "us-gov-west-1",
        dns_suffix: "amazonaws.com",
        dual_stack_dns_suffix: "api.aws",
        sign_in_domain: "signin.amazonaws-us-gov.com",
    },
    Partition {
        id: "aws-eusc",
        region_prefix: "eusc-",
        default_region: "eusc-de-east-1",
        dns_suffix: "amazonaws.eu",
        dual_stack_dns_suffix: "api.amazonwebservices.eu",
        sign_in_domain: "signin.amazonaws-eusc.eu",
    },
    Partition {
        id: "aws-iso",
        region_prefix: "us-iso-",
        default_region: "us-iso-east-1",
        dns_suffix: "c2s.ic.gov",
        dual_stack_dns_suffix: "api.aws.ic.gov",
        sign_in_domain: "signin.c2shome.ic.gov",
    },
    Partition {
        id: "aws-iso-b",
        region_prefix: "us-isob-",
        default_region: "us-isob-east-1",
        dns_suffix: "sc2s.sgov.gov",
        dual_stack_dns_suffix: "api.aws.scloud",
        sign_in_domain: "signin.sc2shome.sgov.gov",
    },
    Partition {
        id: "aws-iso-e",
        region_prefix: "eu-isoe-",
        default_region: "eu-isoe-west-1",
        dns_suffix: "cloud.adc-e.uk",
        dual_stack_dns_suffix: "api.cloud-aws.adc-e.uk",
        sign_in_domain: "signin.csphome.adc-e.uk",
    },
    Partition {
        id: "aws-iso-f",
        region_prefix: "us-isof-",
        default_region: "us-isof-south-1",
        dns_suffix: "csp.hci.ic.gov",
        dual_stack_dns_suffix: "api.aws.hci.ic.gov",
        sign_in_domain: "signin.csphome.hci.ic.gov",
    },
    Partition {
        id: "aws",
        region_prefix: "",
        default_region: "us-east-1",
        dns_suffix: "amazonaws.com",
        dual_stack_dns_suffix: "api.aws",
        sign_in_domain: "signin.aws.amazon.com",
    },
];

impl Partition {
    /// The partition of a region, whose name is in lower case.
    pub(crate) fn of_region(region: &str) -> &'static Self {
        let found = PARTITIONS.iter().find(|partition| region.starts_with(partition.region_prefix));
        found.unwrap_or(&PARTITIONS[PARTITIONS.len() - 1])
    }

    /// The partition of this id; `None` for one that this table does not have.
    pub(crate) fn of_id(id: &str) -> Option<&'static Self> {
        PARTITIONS.iter().find(|partition| partition.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_found_by_its_id_and_by_its_default_region() {
        for partition in &PARTITIONS {
            assert_eq!(Partition::of_id(partition.id), Some(partition));
            assert_eq!(Partition::of_region(partition.default_region), partition);
        }
        assert_eq!(Partition::of_region("ap-southeast-7").id, "aws");
        assert_eq!(Partition::of_id("aws-moon"), None);
    }
}
