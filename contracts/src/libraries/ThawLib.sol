// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Time buckets of unbonding: bucket `b` ends at second `b * width`. What starts together ends together, and a slash walks few of them.
library ThawLib {
    /// @notice The bucket that ends no sooner than `period` from now.
    function bucketAt(uint256 time, uint256 period, uint256 width) internal pure returns (uint32) {
        return uint32((time + period + width - 1) / width);
    }

    /// @notice The first bucket that has not ended by `time`; every earlier one has.
    function firstLive(uint256 time, uint256 width) internal pure returns (uint32) {
        return uint32(time / width + 1);
    }
}
