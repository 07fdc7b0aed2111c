// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RewardPoolClaim} from "./claim.t.sol";
import {RewardPoolFund} from "./fund.t.sol";
import {RewardPoolRecord} from "./record.t.sol";
import {RewardPoolSetEmission} from "./setEmission.t.sol";

/// @notice All of the contract's functions in one: a test contract costs seconds to compile.
contract RewardPoolTest is RewardPoolClaim, RewardPoolFund, RewardPoolRecord, RewardPoolSetEmission {}
