// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract RewardPoolRecord is Network {
    function test_record__by_another__reverts() public {
        vm.expectRevert(abi.encodeWithSelector(IRewardPool.NotAllowed.selector, address(this)));
        rewards.record(owner, 1);
    }

    function test_record__adds_up_by_provider_and_epoch() public {
        vm.startPrank(address(settlement));
        rewards.record(owner, 0);
        assertEq(rewards.lastSequence(), 1);
        rewards.record(owner, 3);
        rewards.record(owner, 4);
        rewards.record(payer, 5);
        vm.stopPrank();
        uint64 epoch = rewards.currentEpoch();
        assertEq(rewards.cutOf(owner, epoch), 7);
        assertEq(rewards.epochOf(epoch).cut, 12);
    }
}
