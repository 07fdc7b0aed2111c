// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import "../../utils/Network.t.sol";

abstract contract RewardPoolFund is Network {
    function testFuzz_fund__adds_to_what_is_unallocated(uint96 amount) public {
        amount = uint96(bound(amount, 1, 1_000_000 ether));
        token.approve(address(rewards), amount);
        rewards.fund(amount);
        assertEq(rewards.unallocated(), amount);
        _assertLedgers();
        vm.expectRevert(IRewardPool.ZeroAmount.selector);
        rewards.fund(0);
    }
}
